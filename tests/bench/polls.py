"""Measure a poll: the processor time of the API and of PostgreSQL for one GET of a film that waits, and for a 304.

`python -m tests.bench.polls [--polls N]` starts servers and the API as a process of its own. One client polls over one
connection, one request after another: processor times hold on a busy machine too, where clock times do not.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg

from app.cli.client import answers
from app.cli.ports import free_port
from app.settings import child_environment, get_settings
from tests.bench.money import bench_servers
from tests.bench.queue_depth import ORDER, open_account

READY_SECONDS = 60.0
POLL_MS_MAX = 3.0


@contextmanager
def api_process(home: Path) -> Iterator[tuple[psutil.Process, int]]:
    """Run the API as one process during the block; yield it and its port."""
    port = free_port(0, "127.0.0.1")
    environment = child_environment(
        port=port, home=home, secret="a secret of this bench", log_level="WARNING", api_processes=1
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


def backend_seconds(role: str = "api") -> float:
    """Return the processor seconds that PostgreSQL has used for the open connections of a role."""
    with psycopg.connect(get_settings().database_url) as database:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
        pids = database.execute(query, (f"cinemeter-{role}",)).fetchall()
    return sum(processor_seconds(psutil.Process(pid)) for (pid,) in pids)


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor seconds of a process and of its children."""
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (each.cpu_times() for each in family))


def measure(process: psutil.Process, client: httpx.Client, path: str, count: int, status: int, **headers: str) -> str:
    """Poll `count` times; return the milliseconds of processor time of one poll, as a line."""
    for _ in range(50):
        assert client.get(path, headers=headers).status_code == status
    api, backend, began = processor_seconds(process), backend_seconds(), time.perf_counter()
    for _ in range(count):
        client.get(path, headers=headers)
    wall = (time.perf_counter() - began) / count * 1000
    mine = (processor_seconds(process) - api) / count * 1000
    theirs = (backend_seconds() - backend) / count * 1000
    return (
        f"{mine:.2f} ms in the API (aim {POLL_MS_MAX:g}), {theirs:.2f} ms in PostgreSQL, {wall:.1f} ms until answered"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=1000)
    options = parser.parse_args()
    with bench_servers() as folder, ExitStack() as stack:
        key = open_account()
        with api_process(folder / "api") as (process, port):
            base, authorization = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
            client = stack.enter_context(httpx.Client(base_url=base, headers=authorization, timeout=60))
            video = [client.post("/v1/videos", json=ORDER).raise_for_status().json()["id"] for _ in range(5)][-1]
            path = f"/v1/videos/{video}"
            print(f"/healthz: {measure(process, client, '/healthz', options.polls, 200)}")
            print(f"a poll of a queued film: {measure(process, client, path, options.polls, 200)}")
            tag = client.get(path).headers.get("etag", "")
            if tag:
                same = measure(process, client, path, options.polls, 304, **{"If-None-Match": tag})
                print(f"a poll answered 304: {same}")
            listing = measure(process, client, "/v1/videos?limit=5", max(50, options.polls // 5), 200)
            print(f"a list of 5 queued films: {listing}")


if __name__ == "__main__":
    main()
