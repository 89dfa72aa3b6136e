"""When a take is overdue: it stalled, or goes on though it lost its lease longer ago than its steps explain."""

import time
from types import SimpleNamespace

import pytest

from app.settings import get_settings
from workers.heartbeat import LOAD_SECONDS, Heartbeat
from workers.render_control import RETURN_SECONDS, TakeControl


@pytest.fixture
def heartbeat() -> Heartbeat:
    return Heartbeat(SimpleNamespace(take_id="take_1"), TakeControl())  # type: ignore[arg-type]


def advance(control: TakeControl, step: int, *, seconds: float) -> None:
    """Record a step that began so many seconds ago."""
    control._progress_at = time.monotonic() - seconds
    control.on_step(step, 10)


def test_a_take_that_advances_is_not_overdue(heartbeat: Heartbeat) -> None:
    for step in (1, 2, 3):
        advance(heartbeat.control, step, seconds=1.0)
    assert heartbeat.overdue() is None


def test_a_take_is_overdue_some_seconds_after_it_stalled(heartbeat: Heartbeat) -> None:
    stall = get_settings().stall_seconds
    heartbeat.control._progress_at = time.monotonic() - stall - RETURN_SECONDS + 1
    assert heartbeat.overdue() is None
    heartbeat.control._progress_at = time.monotonic() - stall - RETURN_SECONDS - 1
    assert "take_1 has not advanced for" in (heartbeat.overdue() or "")


def test_a_model_may_load_for_longer_than_a_step_may_last(heartbeat: Heartbeat) -> None:
    with heartbeat.control.loading():
        heartbeat.control._progress_at = time.monotonic() - LOAD_SECONDS
        assert heartbeat.overdue() is None
        heartbeat.control._progress_at = time.monotonic() - LOAD_SECONDS - 2 * RETURN_SECONDS
        assert heartbeat.overdue()
    assert heartbeat.overdue() is None, "the end of loading is progress"


@pytest.mark.parametrize(("step_seconds", "return_seconds"), [(0.1, RETURN_SECONDS), (20.0, 40.0)])
def test_a_take_without_its_lease_has_the_time_of_two_steps(
    heartbeat: Heartbeat, step_seconds: float, return_seconds: float
) -> None:
    control = heartbeat.control
    control.fence_at(time.monotonic() - 100)
    advance(control, 1, seconds=300)
    assert heartbeat.overdue() is None, "the first step holds the text, so it says nothing about the next one"
    advance(control, 2, seconds=step_seconds)
    control.fence_at(time.monotonic() - return_seconds + 1)
    assert heartbeat.overdue() is None
    control.fence_at(time.monotonic() - return_seconds - 1)
    assert "take_1 has not returned for" in (heartbeat.overdue() or "")
    control.forget_pace()
    assert heartbeat.overdue() is None, "an upload waits for storage, which has time-outs of its own"
