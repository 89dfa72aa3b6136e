"""Redis stands still: films go on, because workers look for work by themselves."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from app.cli.embedded import EmbeddedServers
from app.db import transaction
from app.jobs.queue_tables import Worker
from app.settings import child_environment, get_settings
from tests.api_client import World
from tests.workers.worker_processes import wait_until

PATIENCE_SECONDS = 120.0


@pytest.fixture
def servers_of_redis(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """A Redis of this test's own."""
    servers = EmbeddedServers(tmp_path / "redis", throwaway=True)
    servers.redis.start()
    yield servers
    servers.remove()


@pytest.fixture
def redis_url(servers_of_redis: EmbeddedServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CINEMETER_REDIS_URL", servers_of_redis.redis.url)
    get_settings.cache_clear()
    yield servers_of_redis.redis.url
    monkeypatch.undo()
    get_settings.cache_clear()


def idle_workers() -> int:
    with transaction() as session:
        return len(session.scalars(select(Worker.id).where(Worker.state == "idle")).all())


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_films_go_on_while_redis_is_frozen(
    world: World, servers_of_redis: EmbeddedServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_STORAGE_URL", f"file:{tmp_path / 'store'}")
    get_settings.cache_clear()
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.cli.serve", "worker"],
            cwd=tmp_path,
            env=child_environment(home=tmp_path / "worker", pools="synthetic,finish"),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(idle_workers, "the worker is idle", PATIENCE_SECONDS)
        assert servers_of_redis.redis.process is not None
        redis = psutil.Process(servers_of_redis.redis.process.pid)
        redis.suspend()
        try:
            body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
            answer = world.post("/v1/videos", body)
            assert answer.status_code == 200, answer.text
            video = f"/v1/videos/{answer.json()['id']}"
            wait_until(lambda: world.get(video).json()["status"] == "completed", "the film is made", PATIENCE_SECONDS)
            worker.terminate()
            assert worker.wait(PATIENCE_SECONDS) == 0
        finally:
            redis.resume()
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
