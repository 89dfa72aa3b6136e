"""Readiness: the database and its schema decide; storage, Redis and workers are only reported."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from app.api import health
from app.db import transaction
from app.dispatch.worker_registry import register_worker
from app.migrations.revisions import known_revisions
from app.settings import get_settings
from tests.api_client import World


def away() -> None:
    raise ConnectionError


def test_storage_and_redis_that_are_away_are_reported_and_decide_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_check_storage", away)
    monkeypatch.setattr(health, "_check_redis", away)
    answer = world.app.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    parts = {"database": "ok", "schema": "ok", "pools": "ok", "redis": "ConnectionError", "storage": "ConnectionError"}
    assert answer.json()["parts"] == parts


def test_a_store_that_hangs_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(health, "_check_storage", go_on.wait)
    answer = world.app.get("/readyz")
    go_on.set()
    assert (answer.status_code, answer.json()["parts"]["storage"]) == (200, health.NO_ANSWER)


def test_the_schema_of_this_release_decides(world: World) -> None:
    newest, older = known_revisions()[:2]
    for revision, status in ((older, 503), ("of_a_later_release", 200), (newest, 200)):
        with transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        answer = world.app.get("/readyz")
        assert answer.status_code == status, revision
        assert answer.json()["parts"]["schema"] == ("ok" if status == 200 else "SchemaTooOld")


def test_pools_that_no_worker_serves_are_listed(world: World) -> None:
    before = world.app.get("/readyz").json()["pools_without_worker"]
    assert {"finish", "synthetic"} <= set(before)
    with transaction() as session:
        register_worker(session, "worker-1", pools=["finish"], host="h", pid=1, device="cpu", facts={})
    assert world.app.get("/readyz").json()["pools_without_worker"] == [pool for pool in before if pool != "finish"]


def test_a_pool_whose_workers_an_autoscaler_starts_is_listed_as_asleep(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = 'gpus = [{ name = "24g", memory_gib = 24, workers_max = %d }]'
    for workers_max, lists in (
        (2, ("pools_asleep", "pools_without_worker")),
        (0, ("pools_without_worker", "pools_asleep")),
    ):
        folder = tmp_path / str(workers_max)
        folder.mkdir()
        (folder / "pools.toml").write_text(f"[pools.synthetic]\n{gpu % workers_max}\n", encoding="utf-8")
        monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(folder))
        get_settings.cache_clear()
        answer = world.app.get("/readyz").json()
        assert (answer["status"], "synthetic" in answer[lists[0]], "synthetic" in answer[lists[1]]) == (
            "ok",
            True,
            False,
        )
        assert "finish" in answer["pools_without_worker"]
    with transaction() as session:
        register_worker(session, "worker-1", pools=["synthetic"], host="h", pid=1, device="cpu", facts={})
    answer = world.app.get("/readyz").json()
    assert "synthetic" not in answer["pools_asleep"] + answer["pools_without_worker"]


def test_a_catalogue_that_cannot_be_read_is_reported_and_decides_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "load_catalog", lambda _: away())
    answer = world.app.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert (answer.json()["parts"]["pools"], answer.json()["pools_without_worker"]) == ("ConnectionError", [])


def test_the_checks_begin_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    check_database, waits = health._check_database, []

    def check_and_tell() -> None:
        begun.set()
        check_database()

    monkeypatch.setattr(health, "PATIENCE_SECONDS", 30)
    monkeypatch.setattr(health, "_check_database", check_and_tell)
    # The wait ends in any case before the patience does; only where the other check begins first, it is in vain.
    monkeypatch.setattr(health, "_check_redis", lambda: waits.append(begun.wait(10)))
    assert world.app.get("/readyz").status_code == 200
    assert waits == [True]


def test_agents_read_how_to_use_the_service(world: World) -> None:
    guide = world.app.get("/llms.txt")
    assert guide.headers["content-type"] == "text/plain; charset=utf-8"
    assert guide.text.startswith("# Cinemeter\n\n> ")
    assert "{base_url}" not in guide.text
    described = world.app.get("/openapi.json").json()["paths"]
    for path in ("/v1/models", "/v1/videos", "/v1/videos/estimates", "/v1/videos/quotes"):
        assert path in described
        assert path in guide.text
