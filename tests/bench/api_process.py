"""The API as a process of its own, for measurements through its port."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.cli.client import answers
from app.cli.ports import free_port
from app.settings import child_environment

READY_SECONDS = 60.0


@contextmanager
def api_process(home: Path, **settings: object) -> Iterator[tuple[psutil.Process, int]]:
    """Run the API as one process during the block, with these settings by name; yield it and its port."""
    port = free_port(0, "127.0.0.1")
    environment = child_environment(
        port=port, home=home, secret="a secret of this bench", log_level="WARNING", api_processes=1, **settings
    )
    process = subprocess.Popen([sys.executable, "-P", "-m", "app.cli.serve", "api"], env=environment)
    try:
        until = time.monotonic() + READY_SECONDS
        while not answers(f"http://127.0.0.1:{port}/readyz"):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(30)
