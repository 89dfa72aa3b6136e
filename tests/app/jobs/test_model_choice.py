"""Which model makes a film: `auto` takes the cheapest that can and says why; a refusal names the models that can."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.models import load_catalog
from app.catalog.pools import load_pools
from app.dispatch.worker_registry import deregister_worker, register_worker
from app.errors import AppError
from app.jobs.queue_tables import Worker
from app.jobs.quote import estimate
from app.settings import get_settings
from tests.ledger_simulation import Line, request

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
    load_pools.cache_clear()


@pytest.fixture
def ask(session: Session) -> Callable[..., dict[str, Any]]:
    """Return a function that resolves and prices a request of a free account."""
    line = Line(session)
    caller: Caller = line.open(membership="free")
    return lambda **fields: estimate(session, caller, request(**{"model": "auto", "seconds": 5, **fields})).resolved()


def test_auto_takes_the_cheapest_and_says_so(models: Models, ask: Callable[..., dict[str, Any]]) -> None:
    assert ask()["model_chosen"] == "the only enabled model that can make this"
    models("fast-turbo", {"[switches]": "[switches]\nfirst_block_cache = 0.1"})
    quote = ask()
    assert quote["model"] == "fast-turbo"
    reason = "the cheapest, at 2.25 CNY; others: demo 4.50; it trades exactness for speed"
    assert quote["model_chosen"] == reason
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
    quote = ask()
    assert quote["model"] == "zeta"
    assert "most native pixels" in quote["model_chosen"]
    assert ask(ratio="1:1")["model"] == "demo", "of equal pixels the catalogue's order decides"


ONLY_PICTURES = {'modes = ["t2v", "i2v", "v2v", "edit", "extend"]': 'modes = ["i2v"]'}


@pytest.mark.parametrize(
    ("changes", "fields", "field", "able"),
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
    fields: dict[str, Any],
    field: str,
    able: set[str],
) -> None:
    models("narrow", changes)
    with pytest.raises(AppError) as refused:
        ask(model="narrow", seconds=None, **fields)
    assert (refused.value.code, refused.value.field) == ("mode_unsupported", field)
    assert able <= set(refused.value.facts["allowed"])
    assert "narrow" not in refused.value.facts["allowed"]


# 36 GB of weights, in a pool of its own.
LARGE = {"transformer_params = 1_230_000": "transformer_params = 9_000_000_000", 'pool = "demo"': 'pool = "large"'}


def work_with(session: Session, memory: int | None, *, name: str = "worker-1", pool: str = "demo") -> None:
    """Register a worker with so many bytes of memory."""
    facts = {} if memory is None else {"memory_bytes": memory}
    register_worker(session, name, pools=[pool], host="here", pid=1, device="cuda:0", facts=facts)


def test_what_fits_no_worker_is_refused_before_it_is_sold(
    models: Models, ask: Callable[..., dict[str, Any]], session: Session
) -> None:
    models("large", LARGE)
    assert ask(model="large")["model"] == "large", "nobody serves the pool yet, so nothing is known"
    work_with(session, 16 * 2**30, pool="large")
    with pytest.raises(AppError) as refused:
        ask(model="large")
    assert (refused.value.code, refused.value.field, refused.value.facts["value"]) == ("does_not_fit", "model", "large")
    assert refused.value.facts["allowed"] == ["demo"]
    assert "16.0 GiB" in refused.value.message
    assert ask(model="auto")["model"] == "demo", "auto passes over it"
    session.execute(update(Worker).values(memory_mb=None))
    with pytest.raises(AppError, match="GiB"):
        ask(model="large")  # of a worker of older code only the facts are known
    work_with(session, None, name="worker-2", pool="large")
    assert ask(model="large")["model"] == "large", "one of its workers has not reported its memory"
    deregister_worker(session, "worker-2")
    work_with(session, 80 * 2**30, name="worker-3", pool="large")
    assert ask(model="large")["model"] == "large", "one of its workers has the memory"


def test_what_a_model_requires_and_what_may_be_started_count_too(
    models: Models, ask: Callable[..., dict[str, Any]], session: Session, tmp_path: Path
) -> None:
    models("large", LARGE | {'name = "Cinemeter demo"': 'name = "Large"\nrequires = ["fp8"]'})
    facts: dict[str, Any] = {"memory_bytes": 80 * 2**30, "features": ["bfloat16"]}
    register_worker(session, "worker-1", pools=["large"], host="here", pid=1, device="cuda:0", facts=facts)
    with pytest.raises(AppError, match="needs a GPU with fp8; no worker of its pool has one") as refused:
        ask(model="large")
    assert (refused.value.code, refused.value.field, refused.value.facts["allowed"]) == (
        "does_not_fit",
        "model",
        ["demo"],
    )
    pools = '[[pools.large.gpus]]\nname = "new"\nmemory_gib = 40\nfeatures = ["fp8"]\nworkers_max = 1\n'
    for text, able in ((pools, True), (pools.replace("40", "16"), False)):
        (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
        load_pools.cache_clear()
        if able:
            assert ask(model="large")["model"] == "large", "it sleeps"
        else:
            with pytest.raises(AppError, match="there is 16"):
                ask(model="large")


def test_a_size_that_does_not_fit_is_refused_with_those_that_do(
    models: Models, ask: Callable[..., dict[str, Any]], session: Session
) -> None:
    models("wide", {'"16:9" = [112, 64]': '"16:9" = [11200, 6400]'})
    work_with(session, 2 * 2**30)
    with pytest.raises(AppError) as refused:
        ask(model="wide", seconds=1)
    assert (refused.value.code, refused.value.field) == ("does_not_fit", "size")
    assert "720P 1:1" in refused.value.facts["allowed"]
    assert "720P 16:9" not in refused.value.facts["allowed"]
    assert ask(model="wide", seconds=1, ratio="1:1")["ratio"] == "1:1"


def test_a_quote_is_not_redeemed_when_what_could_make_it_has_gone(models: Models, session: Session) -> None:
    line = Line(session)
    models("large", LARGE)
    alice = line.open()
    line.act(lambda: work_with(session, 80 * 2**30, pool="large"))
    quote = line.quote(alice, model="large")
    line.act(lambda: work_with(session, 16 * 2**30, pool="large"))
    with pytest.raises(AppError) as refused:
        line.order(alice, model="large", quote_id=quote.id)
    assert refused.value.code == "does_not_fit"
    session.refresh(quote)
    assert quote.state == "open", "it may be redeemed once a worker is back"
    line.check()
