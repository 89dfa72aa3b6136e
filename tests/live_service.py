"""A whole service as a customer meets it: `cinemeter up` in a folder of its own, over HTTP."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.cli.embedded import EmbeddedServers
from app.settings import child_environment

UP_SECONDS = 120


@dataclass
class Service:
    """A running service, its process tree, and its keys."""

    base_url: str
    keys: dict[str, str]
    home: Path
    process: subprocess.Popen[str]
    links: dict[str, str] = field(default_factory=dict)

    def client(self, key: str = "creator", **headers: str) -> httpx.Client:
        secret = self.keys.get(key, key)
        return httpx.Client(
            base_url=self.base_url, headers={"Authorization": f"Bearer {secret}", **headers}, timeout=60
        )

    def processes(self, role: str) -> list[psutil.Process]:
        """The processes of a role (`api`, `scheduler`, `courier`, `worker`, `worker-child`), as they run now."""
        processes = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if role_of(child) == role:
                    processes.append(child)
            except psutil.Error:
                continue
        return processes

    def servers(self) -> dict[str, Any]:
        """The addresses of the embedded servers of this home."""
        record: dict[str, Any] = json.loads((self.home / "servers.json").read_text())
        return record


def role_of(process: psutil.Process) -> str:
    """Say which role a process of the tree has, or '' for none of ours."""
    command = process.cmdline()
    if "app.cli.serve" in command:
        return command[command.index("app.cli.serve") + 1]
    if "workers.main" in command:
        return "worker"
    # A spawned pool process names nothing but Python's spawn entry; its parent is the Celery worker.
    if any("spawn_main" in part for part in command):
        parent = process.parent()
        return "worker-child" if parent is not None and "workers.main" in parent.cmdline() else ""
    return ""


def start(home: Path, *options: str, **settings: str) -> Service:
    """Start a service on `home` and return it once it answers."""
    home.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main", "up", "--json", "--home", str(home), "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
        # One process of the API starts sooner than two, and a test can freeze or kill it.
        env={
            **child_environment(api_processes=1),
            "CINEMETER_WEBHOOK_ALLOW_PRIVATE": "1",
            **settings,
        },
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the service did not come up"
    record: dict[str, Any] = json.loads(line)
    return Service(record["base_url"], record["keys"], home, process, record["links"])


def stop(service: Service) -> int:
    """End a service as Ctrl-C does, remove its database, and return its exit status."""
    service.process.terminate()
    status = service.process.wait(timeout=90)
    assert service.process.stdout is not None
    service.process.stdout.close()
    # Under root the data lies outside the home, where nobody would clean up after the tests.
    EmbeddedServers(service.home).remove()
    return status


def follow(client: httpx.Client, video_id: str) -> dict[str, Any]:
    """Wait for the end of a job's event stream, as a page does, and return the job."""
    while True:
        with client.stream("GET", f"/v1/videos/{video_id}/events", timeout=600) as stream:
            stream.raise_for_status()
            for _ in stream.iter_lines():
                pass
        video: dict[str, Any] = client.get(f"/v1/videos/{video_id}").raise_for_status().json()
        if video["status"] not in ("queued", "in_progress"):
            return video
