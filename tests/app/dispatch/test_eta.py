"""Queue positions and ETAs follow the fair order and measured throughput, and their error is measured."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

import app.dispatch
from app.clock import now
from app.dispatch import eta
from app.dispatch.claim import claim
from app.dispatch.eta_accuracy import accuracy, forget_forecasts, record_eta_forecasts, score_eta_forecasts
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.dispatch.tables import Forecast, Throughput
from app.dispatch.throughput import PRIOR, PRIORS
from app.dispatch.worker_registry import register_worker, set_draining
from app.jobs.plan import enqueue_finish
from app.jobs.queue_tables import Share, Unit
from app.jobs.tables import Job
from tests.factories import make_account, make_queued_job, make_spec
from tests.ledger_simulation import Line

# Two seconds of film at 8 frames per second: 16 frames, so 8 s of one worker in the middle and 16 s when slow.
PACES = {("demo", "segment"): ("0.5", "1"), ("finish", "finish"): ("0.0625", "0.125")}
UNIT, SLOW, FINISH = 8, 16, 1


@pytest.fixture(autouse=True)
def measured(session: Session) -> None:
    for (model, kind), (p50, p90) in PACES.items():
        quantiles = {"p50": Decimal(p50), "p90": Decimal(p90), "gpu_p50": Decimal(p50)}
        session.add(Throughput(model=model, kind=kind, shape="720P", samples=9, **quantiles))
    session.flush()


def forecast(session: Session, job: Job) -> eta.Outlook:
    return forecasts(session, [job])[job.id]


def forecasts(session: Session, jobs: list[Job]) -> dict[str, eta.Outlook]:
    """Forecast from a snapshot of now; the scheduler's is up to a second old."""
    refresh_queue_snapshot(session)
    return eta.forecasts(session, jobs)


def workers(session: Session, count: int, *pools: str) -> None:
    for number in range(count):
        facts = {"host": "here", "pid": 1, "device": "cpu", "facts": {}}
        register_worker(session, f"worker-{number}", pools=list(pools or ("demo", "finish")), **facts)


def test_a_job_alone_starts_at_once_and_lasts_as_long_as_similar_jobs(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id)
    assert forecast(session, job).eta() is None, "nobody serves the pool, so nothing is promised"
    workers(session, 1)
    outlook = forecast(session, job)
    assert (outlook.position, outlook.start_p50) == (0, 0)
    assert (outlook.end_p50, outlook.end_p90) == (UNIT + FINISH, SLOW + 2 * FINISH)


def test_what_runs_now_is_waited_for(session: Session) -> None:
    """With an empty queue and busy workers, a job does not start at once."""
    account = make_account(session)
    make_queued_job(session, account.id)
    workers(session, 1)
    assert claim(session, "worker-0", ["demo"]) is not None
    session.info["clock_offset"] = timedelta(seconds=3)
    session.info.pop("cinemeter_now", None)
    job = make_queued_job(session, account.id)
    outlook = forecast(session, job)
    assert outlook.position == 0
    assert outlook.start_p50 == UNIT - 3
    workers(session, 2)
    assert forecast(session, job).start_p50 == 0, "a second worker is idle"


def test_a_chained_shot_is_one_shot_however_many_of_its_segments_wait(session: Session) -> None:
    """Ten seconds are three segments, which follow each other: as five clips of two would."""
    job = make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(10,)))
    assert session.query(Unit).filter_by(job_id=job.id).count() == 3
    workers(session, 4)
    alone = forecast(session, job)
    assert alone.end_p50 == 5 * UNIT + 5 * FINISH
    assert claim(session, "worker-0", ["demo"]) is not None
    assert forecast(session, job).end_p50 == alone.end_p50, "one segment runs, and the others still wait for it"


def test_an_account_waits_for_its_own_work_no_quicker_than_its_cap_allows(session: Session) -> None:
    account = make_account(session)
    moment = now(session)
    jobs = [make_queued_job(session, account.id, concurrency=1, at=moment - timedelta(seconds=9 - n)) for n in range(5)]
    workers(session, 4)
    assert [forecast(session, job).start_p50 for job in jobs] == [0, UNIT, 2 * UNIT, 3 * UNIT, 4 * UNIT]
    assert claim(session, "worker-0", ["demo"]) is not None
    assert forecast(session, jobs[1]).start_p50 == UNIT, "nothing else is in line, and three workers are idle"
    assert forecast(session, jobs[4]).start_p50 == 4 * UNIT
    other = make_queued_job(session, make_account(session, "Other").id, at=moment)
    assert forecast(session, other).start_p50 < UNIT * 2, "somebody else has no such cap"


def test_a_flood_counts_only_for_its_fair_share(session: Session) -> None:
    flood, single = make_account(session, "Flood"), make_account(session, "Single")
    moment = now(session)
    for number in range(50):
        make_queued_job(session, flood.id, at=moment - timedelta(seconds=100 - number))
    job = make_queued_job(session, single.id, at=moment)
    workers(session, 1)
    outlook = forecast(session, job)
    assert (outlook.position, outlook.start_p50) == (1, UNIT), "one unit of the flood is level with it and older"
    last = session.query(Job).filter_by(account_id=flood.id).order_by(Job.created_at.desc()).first()
    assert last is not None
    assert forecast(session, last).position == 50, "49 of its own and the single one"


def test_weights_classes_and_virtual_time_decide_who_is_before(session: Session) -> None:
    mine, heavy, behind = (make_account(session, name) for name in ("Mine", "Heavy", "Behind"))
    moment = now(session)
    jobs = [make_queued_job(session, mine.id, at=moment + timedelta(seconds=n)) for n in range(2)]
    for n in range(9):
        make_queued_job(session, heavy.id, weight=4, at=moment - timedelta(seconds=9 - n))
        make_queued_job(session, behind.id, at=moment - timedelta(seconds=9 - n))
    session.get_one(Share, ("demo", behind.id)).vtime = Decimal(1000)
    session.flush()
    workers(session, 1)
    # Before my second job: my first (8 virtual seconds), and of the heavy one those that begin at 0, 2, 4, 6 and 8.
    assert forecast(session, jobs[1]).position == 1 + 5
    make_queued_job(session, behind.id, spec=make_spec(tier="priority"))
    assert forecast(session, jobs[1]).position == 1 + 5 + 1


def test_a_page_of_forecasts_equals_single_forecasts_with_few_statements(session: Session) -> None:
    """Waiting, rendering, finishing and ended jobs of two accounts, and one that waits in another pool."""
    one, two = make_account(session, "One"), make_account(session, "Two")
    moment = now(session)
    jobs = [
        make_queued_job(
            session, (one, two)[n % 2].id, at=moment - timedelta(seconds=20 - n), spec=make_spec(seconds=(2, 2))
        )
        for n in range(8)
    ]
    jobs.append(make_queued_job(session, one.id, pool="elsewhere"))
    workers(session, 2)
    for _ in range(3):
        assert claim(session, "worker-0", ["demo"]) is not None
    finishing, ended = jobs[2], jobs[3]
    for unit in session.query(Unit).filter_by(job_id=finishing.id):
        unit.state = "done"
    enqueue_finish(session, job_id=finishing.id, account_id=one.id, priority=1, spec=make_spec(), at=moment)
    finishing.stage, finishing.units_done = "finishing", 2
    ended.state, ended.finished_at = "failed", moment
    session.flush()
    alone = {job.id: forecast(session, job) for job in jobs}
    few = counted(session, lambda: forecasts(session, jobs[:2]))
    assert forecasts(session, jobs) == alone
    assert len({str(outlook) for outlook in alone.values()}) > 5, "they differ, so the comparison says something"
    # More pools, lengths and a film that waits to be finished, but no statement for each job.
    assert counted(session, lambda: forecasts(session, jobs)) <= few + 3
    assert counted(session, lambda: eta.forecasts(session, [ended])) == 0


def counted(session: Session, act: Callable[[], object]) -> int:
    """Return how many statements an action sends."""
    statements: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", record)
    try:
        act()
    finally:
        event.remove(connection, "before_cursor_execute", record)
    return len(statements)


def test_the_order_of_the_forecast_is_the_order_of_the_claims(session: Session) -> None:
    moment = now(session)
    jobs = [
        make_queued_job(session, account.id, weight=weight, at=moment + timedelta(milliseconds=10 * n + weight))
        for weight, account in ((weight, make_account(session, f"Weight {weight}")) for weight in (1, 2, 4))
        for n in range(6)
    ]
    workers(session, 1)
    positions = {job.id: forecast(session, job).position for job in jobs}
    served = []
    while (lease := claim(session, "nobody", ["demo"])) is not None:
        served.append(lease.job_id)
    # Who goes first at the same virtual time hangs on the ages of the heads by then, which the forecast does not know:
    # a place may be off by one for each other account that waits.
    assert all(abs(positions[job_id] - place) <= 2 for place, job_id in enumerate(served))


def test_a_draining_worker_is_not_counted_on(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id)
    workers(session, 1)
    set_draining(session, "worker-0")
    assert forecast(session, job).eta() is None
    set_draining(session, "worker-0", drain=False)
    assert claim(session, "worker-0", ["demo"]) is not None
    set_draining(session, "worker-0")
    assert forecast(session, job).end_p50 == UNIT + FINISH, "it ends its take"


def test_how_far_etas_were_off_is_measured(session: Session) -> None:
    line = Line(session)
    alice = line.open()
    line.act(lambda: workers(session, 1, "synthetic", "finish"))
    job, cancelled = line.order(alice, seconds=2), line.order(alice, seconds=2)
    assert line.act(lambda: record_eta_forecasts(session)) == 2
    assert line.act(lambda: record_eta_forecasts(session)) == 0, "once for each job"
    row = session.get_one(Forecast, job.id)
    line.cancel(alice, cancelled.id)
    line.wait(seconds=7)
    line.work()
    assert line.act(lambda: score_eta_forecasts(session)) == 2
    (result,) = accuracy(session)
    assert (result.pool, result.jobs) == ("synthetic", 1), "a cancelled job says nothing about ETAs"
    assert result.start_off == pytest.approx(7 - row.start_p50, abs=0.1)
    assert result.end_off == pytest.approx(abs(7 - row.end_p50), abs=0.1)
    assert result.within == 1.0
    line.wait(days=31)
    assert line.act(lambda: forget_forecasts(session)) == 2


def test_films_of_one_page_are_compared_with_all_accounts_each(session: Session) -> None:
    mine, moment = make_account(session, "Mine"), now(session)
    for name, count in (("Few", 3), ("Many", 30), ("Some", 11)):
        other = make_account(session, name)
        for number in range(count):
            make_queued_job(session, other.id, at=moment - timedelta(seconds=200 - number))
    jobs = [make_queued_job(session, mine.id, at=moment - timedelta(seconds=99 - number)) for number in range(22)]
    workers(session, 1)
    together = [outlook.position for outlook in forecasts(session, jobs).values()]
    assert together == [forecast(session, job).position for job in jobs]
    assert together == sorted(together)


def test_the_first_film_of_the_shipped_model_is_promised_in_seconds(session: Session) -> None:
    line = Line(session)
    alice = line.open()
    line.act(lambda: workers(session, 1, "demo", "finish"))
    # Nothing is measured at this resolution yet.
    job = line.order(alice, model="demo", seconds=5, resolution="480P")
    outlook = line.act(lambda: forecast(session, job))
    assert outlook.end_p90 is not None
    assert outlook.end_p90 < 60


def test_queues_are_estimated_with_the_same_priors() -> None:
    sql = (Path(app.dispatch.__file__).parent / "queue_snapshot.sql").read_text(encoding="utf-8")
    for at, column in enumerate(("p50", "p90")):
        cases = " ".join(f"WHEN '{model}' THEN {prior[at]}" for model, prior in PRIORS.items())
        assert f"coalesce(t.{column}, CASE u.model {cases} ELSE {PRIOR[at]} END)" in sql
    values = ", ".join(f"('{model}', {p50}, {p90})" for model, (p50, p90) in PRIORS.items())
    assert f"VALUES {values}" in eta.FACTS_SQL
    for column, prior, film in zip(("p50", "p90"), PRIOR, PRIORS["finish"], strict=True):
        assert f"coalesce(p.{column}, prior.{column}, {prior})" in eta.FACTS_SQL
        assert f"coalesce(film.{column}, {film})" in eta.FACTS_SQL


def test_the_statement_of_one_job_names_it_without_an_array() -> None:
    """Of an array the database would make a new plan for each poll."""
    assert "ANY (CAST(:ids" in eta.FACTS_SQL
    assert "ANY (CAST(:ids" not in eta.JOB_FACTS_SQL
