"""A store that hangs delays only requests that need a file."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.clock import now
from app.db import transaction
from app.jobs.states import JobState, advance
from app.storage.files import FileStorage
from app.storage.interface import Stat
from tests.api_client import World
from tests.factories import make_queued_job

DELETES = 40
AT_ONCE = 8
PATIENCE_SECONDS = 60


@pytest.mark.timeout(180)
def test_forty_deletes_with_a_hanging_store_delay_no_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction() as session:
        jobs = [make_queued_job(session, world.alice_id) for _ in range(DELETES)]
        for job in jobs:
            advance(job, JobState.FAILED, at=now(session))
    thawed = threading.Event()

    def hang(_storage: FileStorage, _prefix: str) -> Iterator[Stat]:
        thawed.wait()
        return iter(())

    monkeypatch.setattr(FileStorage, "list", hang)
    # More at once of one account would wait for each other at the request gate, and some be refused on a slow machine.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        deletes = [pool.submit(world.delete, f"/v1/videos/{job.id}") for job in jobs]
        try:
            wallet = pool.submit(world.get, "/v1/wallet", key=world.bob)
            assert wallet.result(PATIENCE_SECONDS).status_code == 200
            assert {delete.result(PATIENCE_SECONDS).status_code for delete in deletes} == {200}
        finally:
            thawed.set()
    assert world.get("/v1/videos").json()["data"] == []
