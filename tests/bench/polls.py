"""Measure a poll: the processor time of the API and of PostgreSQL for one GET of a film that waits, and for a 304.

`python -m tests.bench.polls [--polls N]` starts servers and the API as a process of its own. One client polls over one
connection, one request after another: processor times hold on a busy machine too, where clock times do not.
"""

import argparse
import time
from contextlib import ExitStack

import httpx
import psutil
import psycopg

from app.settings import get_settings
from tests.bench.api_process import api_process
from tests.bench.money import bench_servers
from tests.bench.queue_depth import ORDER, open_account

POLL_MS_MAX = 3.0


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
