"""Two actions on one job at the same moment, on two connections: one succeeds, and the audit is clean either way."""

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.lease import LeaseLost, succeed_finish, succeed_segment
from app.errors import AppError
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from tests.ledger_simulation import Line

ROUNDS = 4


@pytest.fixture
def line(engine: Engine, redis_url: str) -> Iterator[Line]:
    with Session(engine, expire_on_commit=False) as session:
        yield Line(session)


def at_once(engine: Engine, *acts: Callable[[Session], object]) -> list[str]:
    """Run actions at the same moment, each in a transaction of its own, and return how each ended."""
    ready = threading.Barrier(len(acts))
    ends = [""] * len(acts)

    def do(which: int) -> None:
        ready.wait(timeout=30)
        try:
            with transaction(engine) as session:
                acts[which](session)
            ends[which] = "done"
        except LeaseLost:
            ends[which] = "lost"
        except AppError as error:
            ends[which] = error.code

    threads = [threading.Thread(target=do, args=(which,)) for which in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return ends


def test_one_finish_reported_twice_at_once_is_paid_once(engine: Engine, line: Line) -> None:
    alice = line.open()
    for number in range(1, ROUNDS + 1):
        job = line.order(alice, seconds=2)
        lease = line.start()
        assert lease is not None
        line.make(lease)
        finish = line.start()
        assert finish is not None
        film = line.film(finish)
        line.session.rollback()

        def report(session: Session, finish=finish, film=film) -> None:
            succeed_finish(session, finish, film, meter={"gpu_seconds": "0"})

        assert sorted(at_once(engine, report, report)) == ["done", "lost"]
        assert line.job(job.id).state == "completed"
        assert line.posted(alice) == 100_000 - 88 * number
        line.check()


def test_a_cancel_and_a_take_at_once(engine: Engine, line: Line) -> None:
    alice = line.open()
    for _ in range(ROUNDS):
        job = line.order(alice, shots=[{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 2}])
        first, second = line.start(), line.start()
        assert first is not None
        assert second is not None
        line.make(first)

        def wish(session: Session, job_id=job.id) -> None:
            request_cancel(session, find_job(session, alice, job_id, lock=True))

        def made(session: Session, lease=second) -> None:
            succeed_segment(session, lease, clip_key="clips/b.mp4", handover_key=None, meter={"gpu_seconds": "1"})

        ends = at_once(engine, wish, made)
        # The wish came first and the take is void, or the take did and the film is being finished.
        assert ends in (["done", "lost"], ["too_late", "done"])
        line.work()
        state, total = line.job(job.id).state, line.receipt(job.id).total
        assert (state, total) == (("cancelled", 88) if ends[0] == "done" else ("completed", 176))
        line.check()
