"""Which model makes a film: `auto` takes the cheapest that can and says why; a refusal names the models that can."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.models import load_catalog
from app.errors import AppError
from app.jobs.quote import estimate
from app.settings import get_settings
from tests.line import Line, request

Models = Callable[..., None]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    """Return a function that adds a model to the catalogue: the demo under another id, with some lines changed."""
    demo = files("app.catalog").joinpath("demo.toml").read_text(encoding="utf-8")
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    get_settings.cache_clear()

    def add(model_id: str, changes: dict[str, str] | None = None) -> None:
        text = demo.replace('id = "demo"', f'id = "{model_id}"')
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / f"{model_id}.toml").write_text(text, encoding="utf-8")
        load_catalog.cache_clear()

    yield add
    monkeypatch.undo()
    get_settings.cache_clear()
    load_catalog.cache_clear()


@pytest.fixture
def ask(session: Session) -> Callable[..., dict[str, Any]]:
    """Return a function that resolves and prices a request of a free account."""
    line = Line(session)
    caller: Caller = line.open(membership="free")
    return lambda **fields: estimate(session, caller, request(**{"model": "auto", "seconds": 5, **fields})).resolved()


def test_auto_takes_the_cheapest_and_says_so(models: Models, ask: Callable[..., dict[str, Any]]) -> None:
    assert ask()["model_chosen"] == "the only enabled model that can make this"
    models("fast-turbo", {"[switches]": "[switches]\nfirst_block_cache = 0.1"})
    chosen = ask()
    assert chosen["model"] == "fast-turbo"
    told = "the cheapest, at 2.25 CNY; others: demo 4.50; it trades exactness for speed"
    assert chosen["model_chosen"] == told
    assert "model_chosen" not in ask(model="demo"), "who names a model has chosen"


def test_auto_passes_over_a_model_that_cannot_make_the_film(models: Models, ask: Callable[..., dict[str, Any]]) -> None:
    models("brief-turbo", {"shot_seconds_max = 60": "shot_seconds_max = 4"})
    assert ask(seconds=4)["model"] == "brief-turbo"
    assert ask(seconds=5)["model"] == "demo"
    with pytest.raises(AppError) as refused:
        ask(seconds=61)
    assert (refused.value.code, refused.value.field) == ("invalid_request", "seconds")


def test_of_equal_prices_auto_takes_the_one_of_most_native_pixels(
    models: Models, ask: Callable[..., dict[str, Any]]
) -> None:
    models("zeta", {'"16:9" = [112, 64]': '"16:9" = [224, 128]'})
    chosen = ask()
    assert chosen["model"] == "zeta"
    assert "most native pixels" in chosen["model_chosen"]
    assert ask(ratio="1:1")["model"] == "demo", "of equal pixels the catalogue's order decides"


ONLY_PICTURES = {'modes = ["t2v", "i2v", "v2v", "edit", "extend"]': 'modes = ["i2v"]'}


@pytest.mark.parametrize(
    ("changes", "asked", "field", "able"),
    [
        (ONLY_PICTURES, {"prompt": "a", "last_frame": "asset_1"}, "first_frame", {"demo"}),
        (
            ONLY_PICTURES,
            {"shots": [{"prompt": "a", "seconds": 1, "first_frame": "asset_1"}, {"prompt": "b", "seconds": 1}]},
            "shots.1.first_frame",
            {"demo"},
        ),
        (
            ONLY_PICTURES | {'last_frame = "optional"': 'last_frame = "required"'},
            {"prompt": "a", "first_frame": "asset_1"},
            "last_frame",
            {"demo"},
        ),
        (
            {'last_frame = "optional"': 'last_frame = "no"'},
            {"prompt": "a", "first_frame": "asset_1", "last_frame": "asset_2"},
            "last_frame",
            {"demo"},
        ),
        (ONLY_PICTURES, {"prompt": "a"}, "model", {"demo"}),
    ],
)
def test_what_a_model_cannot_do_is_refused_and_who_can_is_named(
    models: Models,
    ask: Callable[..., dict[str, Any]],
    changes: dict[str, str],
    asked: dict[str, Any],
    field: str,
    able: set[str],
) -> None:
    models("narrow", changes)
    with pytest.raises(AppError) as refused:
        ask(model="narrow", seconds=None, **asked)
    assert (refused.value.code, refused.value.field) == ("mode_unsupported", field)
    assert able <= set(refused.value.facts["allowed"])
    assert "narrow" not in refused.value.facts["allowed"]
