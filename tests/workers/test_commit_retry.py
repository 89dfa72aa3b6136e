"""The database connection breaks at the end of a take: before its commit, or before the answer to it."""

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import OperationalError

from app.db import transaction
from app.jobs.tables import ReceiptRow
from app.reports.audit import audit_books
from tests.api_client import World
from tests.workers.worker_processes import takes


class Cut:
    """Cuts the connection of the transaction that ends the n-th take, once: before its commit, or right after it."""

    def __init__(self, url: str, take: int, *, after_commit: bool) -> None:
        self._url = url
        self._take = take
        self._after_commit = after_commit
        self.is_done = False

    def __call__(self, connection: Connection) -> None:
        if self.is_done:
            return
        ended = connection.exec_driver_sql("SELECT count(*) FROM takes WHERE state = 'succeeded'").scalar_one()
        if ended < self._take:
            return
        self.is_done = True
        if self._after_commit:
            connection.exec_driver_sql("COMMIT")
            raise OperationalError("COMMIT", {}, ConnectionResetError("the answer was lost"))
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with psycopg.connect(self._url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (own,))


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("take", [1, 2], ids=["segment", "finish"])
def test_a_connection_that_drops_at_the_end_costs_no_take(
    world: World,
    engine: Engine,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    take: int,
    after_commit: bool,
) -> None:
    monkeypatch.setattr("workers.commit_retry.RETRY_SECONDS", 0.01)
    response = world.post("/v1/videos", {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"})
    video_id = response.json()["id"]
    cut = Cut(database_url, take, after_commit=after_commit)
    event.listen(engine, "commit", cut)
    try:
        world.work()
    finally:
        event.remove(engine, "commit", cut)
    assert cut.is_done
    assert [each.state for each in takes()] == ["succeeded", "succeeded"]
    assert world.get(f"/v1/videos/{video_id}").json()["status"] == "completed"
    with transaction() as session:
        assert len(session.scalars(select(ReceiptRow)).all()) == 1
        assert audit_books(session) == []
