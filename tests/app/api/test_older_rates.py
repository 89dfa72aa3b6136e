"""Films made before their model had an upscaler are retaken and extended at their own rate, or refused unpaid."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from app.catalog.models import load_catalog
from app.db import transaction
from app.jobs.tables import Job
from app.settings import get_settings
from tests.api_client import World
from tests.factories import units_of

UPSCALER = "[upscaler]\nscale = 4\npace = 2\n"
SHOTS = [{"prompt": "a red circle", "seconds": 6}, {"prompt": "a blue square", "seconds": 1}]
Install = Callable[..., None]


@pytest.fixture
def install(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs the demo model with another rate, or the shipped one again."""
    demo = files("app.catalog").joinpath("demo.toml").read_text(encoding="utf-8")
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    get_settings.cache_clear()

    def put(fps: int, *, upscaler: bool) -> None:
        assert UPSCALER in demo
        text = demo if upscaler else demo.replace(UPSCALER, "")
        (tmp_path / "demo.toml").write_text(text.replace("fps = 16\n", f"fps = {fps}\n"), encoding="utf-8")
        load_catalog.cache_clear()

    yield put
    monkeypatch.undo()
    get_settings.cache_clear()
    load_catalog.cache_clear()


def finish(world: World, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    world.work()
    done: dict[str, Any] = world.get(f"/v1/videos/{answer.json()['id']}", world.test_key).json()
    assert done["status"] == "completed", done
    return done


def segments(film: dict[str, Any]) -> list[int]:
    with transaction() as session:
        units = units_of(session, session.get_one(Job, film["id"]))
        return [unit.frames for unit in units if unit.kind == "segment"]


def test_a_film_of_the_native_rate_is_retaken_and_extended_at_it(world: World, install: Install) -> None:
    install(8, upscaler=False)
    old = finish(world, world.post("/v1/videos", {"model": "demo", "shots": SHOTS, "seed": 5}, world.test_key))
    assert (old["resolved"]["fps"], segments(old)) == (8, [24, 24, 8])
    install(16, upscaler=True)
    again = finish(world, world.post(f"/v1/videos/{old['id']}/retakes", {"shot": 0}, world.test_key))
    assert (again["resolved"]["fps"], segments(again), again["seconds"]) == (8, [24, 24], "7")
    body = {"prompt": "a red circle", "seconds": 2, "video": {"id": old["id"]}}
    longer = finish(world, world.post("/v1/videos/extensions", body, world.test_key))
    assert (longer["resolved"]["fps"], segments(longer), longer["seconds"]) == (8, [16], "9")
    new = finish(world, world.post("/v1/videos", {"model": "demo", "shots": SHOTS, "seed": 5}, world.test_key))
    assert (new["resolved"]["fps"], segments(new), new["seconds"]) == (16, [48, 48, 16], "7")


def test_a_film_of_a_rate_that_is_gone_is_refused_before_money(world: World, install: Install) -> None:
    install(24, upscaler=False)
    old = finish(world, world.post("/v1/videos", {"model": "demo", "shots": SHOTS, "seed": 5}, world.test_key))
    install(16, upscaler=True)
    before = world.get("/v1/wallet").json()
    body = {"prompt": "a red circle", "seconds": 2, "video": {"id": old["id"]}}
    for path, fields in ((f"/v1/videos/{old['id']}/retakes", {"shot": 0}), ("/v1/videos/extensions", body)):
        refused = world.post(path, fields, world.test_key).json()
        assert (refused["code"], refused["allowed"]) == ("mode_unsupported", [8, 16])
        assert "not of 24" in refused["detail"]
    assert world.get("/v1/wallet").json() == before
