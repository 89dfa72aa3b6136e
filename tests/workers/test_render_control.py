"""The step loop stops when its lease has passed, even if the heartbeat thread hangs."""

import threading
import time

import pytest
from sqlalchemy import Engine

from app.db import transaction
from app.dispatch.claim import claim
from app.settings import get_settings
from tests.factories import make_account, make_queued_job
from workers.engine import Stopped
from workers.heartbeat import Heartbeat
from workers.render_control import RENDERING_SHARE, TakeControl


def test_the_step_loop_stops_by_itself_when_its_lease_has_passed() -> None:
    control = TakeControl()
    control.fence_at(time.monotonic() + 60)
    control.check()
    control.fence_at(time.monotonic() - 0.001)
    with pytest.raises(Stopped):
        control.check()
    assert control.is_fenced()


def test_its_time_to_leave_stops_the_loop_but_loses_nothing() -> None:
    control = TakeControl()
    control.stop_at(time.monotonic() - 0.001)
    with pytest.raises(Stopped):
        control.check()
    assert not control.is_fenced(), "the lease is still good, so that the take can be handed back"


def test_a_heartbeat_that_hangs_behind_a_lock_lets_the_take_fence_itself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beat waits for a row that another transaction holds, as it would in a dead connection."""
    monkeypatch.setenv("CINEMETER_LEASE_SECONDS", "2")
    get_settings.cache_clear()
    with transaction() as session:
        make_queued_job(session, make_account(session).id)
    with transaction() as session:
        claimed = claim(session, "worker-1", ["demo"])
    assert claimed is not None
    control = TakeControl()
    with engine.connect() as other, other.begin():
        other.exec_driver_sql("SELECT 1 FROM takes FOR UPDATE")
        heartbeat = Heartbeat(claimed, control)
        heartbeat.__enter__()
        stopped = threading.Event()
        threading.Thread(target=lambda: (until(control.cancelled), stopped.set())).start()
        assert stopped.wait(timeout=30)
        assert heartbeat.is_lost
    heartbeat.stop()
    get_settings.cache_clear()


def until(happens: object) -> None:
    while not happens():  # type: ignore[operator]
        time.sleep(0.01)


def test_the_last_tenth_of_a_jobs_progress_is_for_joining() -> None:
    control = TakeControl(share_done=RENDERING_SHARE * 0.5, share=RENDERING_SHARE * 0.5)
    assert control.percent() == 45
    assert TakeControl(share_done=RENDERING_SHARE, share=0.0).percent() == 90
