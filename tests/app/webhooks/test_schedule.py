from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.webhooks.schedule import (
    BREAKER_PAUSE_MAX,
    SCHEDULE,
    breaker_pause,
    classify_response,
    delay_before_next,
    failing_percent,
    parse_retry_after,
    warning_due,
)
from tests.app.webhooks.factories import answered

NOON = datetime(2026, 4, 27, 12, tzinfo=UTC)


def seconds_after(attempts: int, *, status: int | None = 500, spread: float = 0.0, **rest: object) -> float | None:
    answer = answered(status, **rest)  # type: ignore[arg-type]
    delay = delay_before_next(attempts, answer, classify_response(answer, NOON), spread=spread)
    return None if delay is None else delay.total_seconds()


def test_the_schedule_is_the_standards_ten_steps():
    assert sum(SCHEDULE, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
    waits = [seconds_after(attempts) for attempts in range(1, 11)]
    assert waits == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, None]


@settings(deadline=None)
@given(st.integers(1, 9), st.floats(-1, 1))
def test_jitter_stays_within_a_fifth(attempts: int, spread: float):
    wait = seconds_after(attempts, spread=spread)
    step = SCHEDULE[attempts].total_seconds()
    assert wait is not None
    assert 0.8 * step <= wait + 1e-6
    assert wait <= 1.2 * step + 1e-6


def test_a_busy_or_slow_receiver_is_paused_for_a_minute():
    assert seconds_after(1, status=429) == 60
    assert seconds_after(1, status=None, fault="timeout") == 60
    assert seconds_after(1, status=503) == 5
    assert seconds_after(2, status=429) == 300


def test_retry_after_lengthens_up_to_an_hour_and_never_shortens():
    assert seconds_after(1, retry_after="90") == 90
    assert seconds_after(1, retry_after="86400") == 3_600
    assert seconds_after(2, retry_after="1") == 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("9" * 5_000, 3_600),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOON - timedelta(days=1), usegmt=True), 0),
        ("Wed, 21 Oct 9999 07:28:00 GMT", 3_600),
        ("Mon, 01 Jan 3000000000 00:00:00 GMT", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("٣", 3),
    ],
)
def test_retry_after_is_read_with_care(value: str, seconds: int | None):
    delay = parse_retry_after(value, NOON)
    assert (delay.total_seconds() if delay is not None else None) == seconds


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_retry_after_breaks_the_courier(value: str):
    delay = parse_retry_after(value, NOON)
    assert delay is None or timedelta(0) <= delay <= timedelta(hours=1)


@pytest.mark.parametrize(
    ("status", "fault", "decision", "counts"),
    [
        (200, None, "delivered", False),
        (299, None, "delivered", False),
        (302, None, "retry", False),
        (400, None, "retry", False),
        (404, None, "retry", False),
        (410, None, "gone", False),
        (429, None, "retry", True),
        (503, None, "retry", True),
        (None, "timeout", "retry", True),
        (None, "dns_failed", "retry", True),
        (None, "tls_failed", "retry", True),
        (None, "blocked", "blocked", False),
        (None, "proxy_failed", "defer", False),
        (None, "internal", "defer", False),
    ],
)
def test_what_an_answer_means(status, fault, decision, counts):
    outcome = classify_response(answered(status, fault=fault), NOON)
    assert (outcome.decision, outcome.counts_for_breaker) == (decision, counts)


def test_the_breaker_opens_at_five_and_doubles_to_five_minutes():
    pauses = [breaker_pause(failures) for failures in range(4, 12)]
    seconds = [pause.total_seconds() if pause else None for pause in pauses]
    assert seconds == [None, 15, 30, 60, 120, 240, 300, 300]
    assert breaker_pause(10_000) == BREAKER_PAUSE_MAX


def test_warnings_come_at_three_marks_each_once():
    since = NOON - timedelta(days=5)
    percents = [failing_percent(since, since + timedelta(hours=hours)) for hours in (0, 59, 60, 84, 108, 120, 500)]
    assert percents == [0, 49, 50, 70, 90, 100, 100]
    assert [warning_due(percent, 0) for percent in percents[:5]] == [None, None, 50, 70, 90]
    assert warning_due(75, 70) is None
    assert warning_due(95, 50) == 90
