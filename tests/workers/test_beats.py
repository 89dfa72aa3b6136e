"""Beats: a process whose file grows old is killed, and no other process ever is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.worker_processes import wait_until
from workers.beats import Beat, ChildMonitor, late_seconds

BEATING = """
import sys, time
from pathlib import Path
from workers.beats import Beat
beat = Beat(Path(sys.argv[1]))
while True:
    beat.touch()
    print("beat", flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", BEATING, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"beat\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_stopped_process_is_killed_and_its_file_removed(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    monitor = ChildMonitor(tmp_path, late_seconds=3.0, pause_seconds=1.0)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert [monitor.look() for _ in range(4)] == [[], [], [], [child.pid]]
    assert child.wait() == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
    assert monitor.look() == []


def test_a_child_that_was_stopped_before_its_first_beat_is_killed(tmp_path: Path) -> None:
    """As a pool child is started; it loads its libraries for some seconds before it beats."""
    loading = "print('up', flush=True); import time; time.sleep(60)  # spawn_main"
    with subprocess.Popen([sys.executable, "-c", loading], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        monitor = ChildMonitor(tmp_path, late_seconds=3.0, pause_seconds=1.0)
        assert [monitor.look() for _ in range(5)] == [[], [], [], [], []], "one that loads for long is left alone"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert [monitor.look() for _ in range(4)] == [[], [], [], [process.pid]]
        assert process.wait() == -signal.SIGKILL


def test_a_process_that_beats_is_left_alone(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    monitor = ChildMonitor(tmp_path, late_seconds=2.0, pause_seconds=1.0)
    path = tmp_path / str(child.pid)
    for _ in range(10):
        last = path.stat().st_mtime_ns
        wait_until(lambda last=last: path.stat().st_mtime_ns != last, "it beats")  # type: ignore[misc]
        assert monitor.look() == []
    assert child.poll() is None


def test_a_file_of_a_process_that_has_ended_kills_nobody(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    """The id in its name may belong to another process by now: here to this one."""
    (tmp_path / str(os.getpid())).touch()
    child.kill()
    child.wait()
    monitor = ChildMonitor(tmp_path, late_seconds=2.0, pause_seconds=1.0)
    assert [monitor.look() for _ in range(6)] == [[]] * 6
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


def test_a_thread_looks_by_itself(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    ChildMonitor(tmp_path, late_seconds=0.5, pause_seconds=0.05).start()
    child.send_signal(signal.SIGSTOP)
    assert child.wait(timeout=60) == -signal.SIGKILL


def test_a_folder_that_does_not_exist_yet_has_no_children(tmp_path: Path) -> None:
    assert ChildMonitor(tmp_path / "none", late_seconds=1.0).look() == []
    beat = Beat(tmp_path / "new")
    beat.touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [str(os.getpid())]
    beat.close()


@pytest.mark.parametrize(("lease", "late"), [(2, 8.0), (45, 33.75), (600, 450.0)])
def test_a_process_is_late_when_its_takes_are_fenced(lease: int, late: float) -> None:
    assert late_seconds(lease) == late
