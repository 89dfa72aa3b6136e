"""The table of lanes counts the ready units, whoever changes them and however many do so at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.claim import claim
from app.dispatch.lease import release_take
from app.jobs.queue_tables import Unit
from tests.factories import make_account, make_queued_job
from tests.ledger_simulation import Line

COUNTED = "SELECT pool, class, account_id, model, ready FROM lanes ORDER BY 1, 2, 3, 4"
TRUE = """
    SELECT pool, class, account_id, model, count(*) FROM units WHERE state = 'ready'
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


def rows(session: Session, query: str) -> Sequence[Any]:
    session.flush()
    return session.execute(text(query)).all()


def test_a_lane_follows_its_units_through_every_state(session: Session) -> None:
    line = Line(session)
    alice = line.open()
    first = line.order(alice, shots=[{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 9}])
    line.order(alice, seconds=2, service_tier="flex")
    assert [row.ready for row in rows(session, COUNTED)] == [2, 1]
    lease = line.start()
    assert lease is not None
    assert rows(session, COUNTED) == rows(session, TRUE)
    line.release(lease)
    line.cancel(alice, first.id)
    assert rows(session, COUNTED) == rows(session, TRUE)
    line.work()
    assert rows(session, COUNTED) == rows(session, TRUE) == []


@pytest.mark.deep
def test_lanes_count_the_same_under_concurrent_changes(database_url: str, engine: Engine) -> None:
    """Eight threads create, claim and release the units of two accounts; lanes come and go meanwhile."""
    with transaction() as session:
        accounts = [make_account(session, name).id for name in ("Alice", "Bob")]
        for account in accounts:
            make_queued_job(session, account)

    def work(number: int) -> None:
        for turn in range(12):
            with transaction() as session:
                make_queued_job(session, accounts[(number + turn) % 2])
            with transaction() as session:
                lease = claim(session, f"worker-{number}", ["demo"])
            if lease is not None and turn % 3 == 0:
                with transaction() as session:
                    release_take(session, lease)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    with transaction() as session:
        assert rows(session, COUNTED) == rows(session, TRUE) != []
        while claim(session, "worker", ["demo"]) is not None:
            session.flush()
        assert rows(session, COUNTED) == []
        assert session.query(Unit).filter_by(state="ready").count() == 0
