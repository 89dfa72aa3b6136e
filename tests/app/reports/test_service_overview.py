"""Figures of the whole service for operators."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from app.clock import now
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
