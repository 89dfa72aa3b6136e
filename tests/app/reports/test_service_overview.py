"""Figures of the whole service for operators."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.service_figures import add_figures, summed_until
from app.reports.audit import audit_books
from app.reports.service_overview import count_workers, read_days, read_failures, read_queue
from app.wallet.funds import refund
from tests.ledger_simulation import Line


def test_revenue_is_what_was_charged_less_what_was_refunded(session: Session):
    line, zone = Line(session), ZoneInfo("Asia/Shanghai")
    alice = line.open()
    job = line.order(alice, seconds=10)
    line.work()
    settled = line.wait(days=1).astimezone(zone).date() - timedelta(days=1)
    line.act(lambda: refund(session, job.id, 100, reference="flicker", reason="flicker"))
    days = read_days(session, settled, zone)
    assert {day: (each.charged, each.refunded, each.films) for day, each in days.items()} == {
        settled: (439, 0, 1),
        settled + timedelta(days=1): (0, 100, 0),
    }


def test_days_are_the_same_before_and_after_their_quarters_are_summed(session: Session):
    line, zone = Line(session), ZoneInfo("Asia/Kathmandu")
    alice = line.open()
    first = now(session).astimezone(zone).date()
    for day in range(3):
        job = line.order(alice, seconds=5 + day)
        claim = line.start()
        assert claim is not None
        if day == 1:
            line.fail(claim)
        else:
            line.make(claim)
            line.work()
            line.act(lambda job=job: refund(session, job.id, 10, reference=job.id, reason="flicker"))
        line.order(alice, seconds=2)
        line.work()
        line.wait(hours=23, minutes=17)
    before = read_days(session, first, zone), read_failures(session, first, zone)
    assert len(before[0]) >= 3
    assert before[1] == [("engine_failed", 1)]
    assert summed_until(session) is None
    while line.act(lambda: add_figures(session)):
        assert (read_days(session, first, zone), read_failures(session, first, zone)) == before
    summed = summed_until(session)
    assert summed is not None
    assert timedelta(hours=1) <= now(session) - summed < timedelta(hours=1, minutes=15)
    line.check()
    # The audit compares the sums with the rows, whichever of them is changed.
    for change in (
        "UPDATE service_figures SET charged = charged + 1 WHERE films > 0",
        "UPDATE service_figures SET failed = failed + 1 WHERE error_code <> ''",
        "DELETE FROM service_figures WHERE refunded > 0",
        "UPDATE takes SET gpu_seconds = gpu_seconds + 1 WHERE id = (SELECT min(id) FROM takes)",
    ):
        bending = session.begin_nested()
        assert session.execute(text(change)).rowcount > 0
        assert "service_figures_are_sums_of_their_rows" in {finding.rule for finding in audit_books(session)}, change
        bending.rollback()
    session.execute(text("TRUNCATE service_figures"))
    assert (read_days(session, first, zone), read_failures(session, first, zone)) == before


def test_the_queue_shows_waiting_segments_and_waiting_times(session: Session):
    line, zone = Line(session), ZoneInfo("Asia/Shanghai")
    alice = line.open()
    line.order(alice, seconds=5)
    line.wait(minutes=2)
    priority, standard, flex = read_queue(session, now(session))
    assert (priority.title, standard.title, flex.title) == ("Priority", "Standard", "Flex")
    assert (priority.waiting, standard.waiting, flex.waiting) == (0, 1, 0)
    assert standard.oldest_seconds is not None
    assert standard.oldest_seconds >= 120
    assert (standard.films, standard.wait_p50) == (0, None)
    line.work()
    _, standard, _ = read_queue(session, now(session))
    assert (standard.waiting, standard.films) == (0, 1)
    assert standard.wait_p50 is not None
    assert standard.wait_p50 >= 120
    assert read_failures(session, now(session).date(), zone) == []
    assert count_workers(session) == {}
