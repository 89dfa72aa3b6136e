"""Temporary folders of worker processes that were killed are removed by the next one; those of others stay."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.temp_dirs import make_temp_dir, remove_stale_temp_dirs

HOLD = "from workers.temp_dirs import make_temp_dir; f = make_temp_dir('take'); print(f.name, flush=True); input()"


def test_a_killed_process_leaves_its_folder_to_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "cinemeter-elsewhere-1-take-x").mkdir()
    with (
        make_temp_dir("take") as own,
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        left = Path(child.stdout.readline().decode().strip())
        assert remove_stale_temp_dirs() == 0
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert left.is_dir()
        assert remove_stale_temp_dirs() == 1
        assert not left.exists()
        assert Path(own).is_dir()
    assert [each.name for each in tmp_path.iterdir()] == ["cinemeter-elsewhere-1-take-x"]
