"""The process tree: roles are restarted, and all of them are stopped, in order and within their time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.subprocesses import is_ours, spawn, stop_leftover
from app.cli.supervisor import ProcessRole, Supervisor, stop_signals
from app.errors import AppError

# Writes its process id, then waits; on SIGTERM it writes its name into `ended` and goes.
FINISHING = """
import os, pathlib, signal, sys
def leave(*_):
    with open("ended", "a") as file: file.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
draft = pathlib.Path(f".{sys.argv[1]}.pid"); draft.write_text(str(os.getpid())); draft.replace(f"{sys.argv[1]}.pid")
while True: signal.pause()
"""


def finishing_role(name: str) -> ProcessRole:
    return ProcessRole(name, [sys.executable, "-c", FINISHING, name], {"PATH": "/usr/bin:/bin"})


def pid_of(home: Path, name: str) -> int:
    return int((home / f"{name}.pid").read_text(encoding="utf-8"))


def start_tree(home: Path, *roles: ProcessRole) -> Supervisor:
    """Return a tree whose roles have all started."""
    tree = Supervisor(roles, home, say=lambda message: None)
    tree.start()
    tree.wait_until(lambda: all((home / f"{role.name}.pid").exists() for role in roles), 60.0)
    return tree


def test_all_roles_are_stopped_and_may_finish(tmp_path: Path):
    tree = start_tree(tmp_path, finishing_role("api"), finishing_role("worker"))
    pids = [pid_of(tmp_path, name) for name in ("api", "worker")]
    tree.stop()
    assert not [pid for pid in pids if is_ours(pid, tmp_path)]
    assert sorted((tmp_path / "ended").read_text(encoding="utf-8").split()) == ["api", "worker"]


def test_a_killed_role_is_restarted_and_reported(tmp_path: Path):
    messages: list[str] = []
    tree = start_tree(tmp_path, finishing_role("worker"))
    tree.say = messages.append
    before = pid_of(tmp_path, "worker")
    os.kill(before, signal.SIGKILL)
    tree.wait_until(lambda: pid_of(tmp_path, "worker") != before, 60.0)
    tree.stop()
    assert messages == [f"worker exited with -9; it restarts in 0.5 s ({tmp_path}/logs/worker.log)."]


def test_a_role_that_cannot_start_is_reported_with_its_log(tmp_path: Path):
    broken = ProcessRole("api", [sys.executable, "-c", "print('no such table'); raise SystemExit(3)"], {})
    tree = Supervisor([broken], tmp_path, say=lambda message: None)
    tree.start()
    with pytest.raises(AppError, match=r"api did not start(.|\n)*no such table"):
        tree.wait_until(lambda: False, 60.0)
    tree.stop()


def test_a_role_that_ignores_the_request_is_killed(tmp_path: Path):
    deaf = ProcessRole("deaf", [sys.executable, "-c", FINISHING.replace("leave)", "signal.SIG_IGN)"), "deaf"], {})
    deaf.stop_seconds = 0.2
    tree = start_tree(tmp_path, deaf)
    pid = pid_of(tmp_path, "deaf")
    tree.stop()
    assert not is_ours(pid, tmp_path)


def test_roles_of_a_killed_tree_are_ended_by_the_next(tmp_path: Path):
    left_behind = spawn(finishing_role("worker").argv, folder=tmp_path, environment={})
    try:
        Supervisor([], tmp_path, say=lambda message: None).record_pids([left_behind.pid])
        tree = start_tree(tmp_path, finishing_role("api"))
        assert left_behind.wait(10) in (0, -signal.SIGTERM)
        tree.stop()
    finally:
        left_behind.kill()
        left_behind.wait()


def test_an_unrelated_process_is_left_alone(tmp_path: Path):
    stranger = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], cwd="/")
    try:
        assert not stop_leftover(stranger.pid, tmp_path, (signal.SIGTERM, 1.0))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_signal_stops_the_tree_without_interrupting_it(tmp_path: Path):
    tree = Supervisor([], tmp_path, say=lambda message: None)
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals(tree.stopping):
        os.kill(os.getpid(), signal.SIGTERM)
        tree.run(lambda: None)
    assert tree.stopping.is_set()
    assert signal.getsignal(signal.SIGTERM) is before
