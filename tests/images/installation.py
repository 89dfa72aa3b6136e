"""An installation by deploy/compose.yaml: its folder with `.env`, its commands, its database and its customers."""

import json
import re
import secrets
import shlex
import shutil
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.images.engine import Engine, until
from tests.repo.sources import ROOT

HERE = Path(__file__).parent
FILES = ("-f", "deploy/compose.yaml", "-f", "deploy/override.yaml")
NETWORK = "cinemeter_default"
# The services that render without a GPU: one of compose.yaml, and the one that override.yaml adds.
WORKERS = ("finisher", "second-worker")
URL = "http://localhost:8000"
FILM_SECONDS = 240
FINAL = ("completed", "failed", "cancelled", "expired")
# What the runbook asks to be set: every line of env.example that ends in `=`.
PUBLIC_URL = "https://films.example.org"
ANSWERS = {"CINEMETER_PUBLIC_URL": PUBLIC_URL, "CINEMETER_S3_ACCESS_KEY": "films"}
API_CONTAINERS = 2


def make_site(folder: Path) -> Path:
    """Make the folder `deploy` of an installation as the runbook's first step does, and return the folder above it.

    The synthetic model is there a second time as `slow`, with steps that last, so that a take can be met at work.
    """
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    deploy = site / "deploy"
    catalog = deploy / "models" / "catalog"
    catalog.mkdir(parents=True)
    for name in ("compose.yaml", "env.example", "haproxy.cfg", "prometheus.yaml", "alerts.yaml"):
        shutil.copy(ROOT / "deploy" / name, deploy)
    shutil.copy(HERE / "override.yaml", deploy)
    lines = []
    for line in (deploy / "env.example").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"([A-Z0-9_]+)=", line)
        lines.append(f"{line}{ANSWERS.get(match[1], secrets.token_hex(24))}" if match else line)
    settings = "\n".join(lines).replace("API_CONTAINERS=1", f"API_CONTAINERS={API_CONTAINERS}")
    (deploy / ".env").write_text(f"{settings}\n", encoding="utf-8")
    synthetic = (ROOT / "app" / "catalog" / "synthetic.toml").read_text(encoding="utf-8")
    for name, seconds in (("slow", 0.5), ("slower", 5.0)):
        # Every model of the pool `synthetic` is rendered by the shipped one.
        text = synthetic.replace('id = "synthetic"', f'id = "{name}"').replace('pool = "synthetic"', 'pool = "demo"')
        text = re.sub(r"^step_seconds = .*$", f"step_seconds = {seconds}", text, flags=re.MULTILINE)
        (catalog / f"{name}.toml").write_text(text, encoding="utf-8")
    return site


@dataclass
class Installation:
    """A running installation; `admin` and `key` are secrets of the operator and of a customer with money."""

    engine: Engine
    site: Path
    admin: str = ""
    key: str = ""
    account: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    def dc(self, *arguments: str, seconds: float = 300) -> str:
        """Run the runbook's `dc` and return what it wrote, standard error after standard output."""
        return "".join(self.engine.run("docker", "compose", *FILES, *arguments, cwd=self.site, seconds=seconds))

    def run(self, command: str) -> str:
        """Run a command as the runbook has it. Images are built already, so nothing is built here."""
        program, *words = shlex.split(command)
        assert program == "dc", command
        return self.dc(*("--no-build" if word == "--build" else word for word in words))

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, as they run now."""
        return self.dc("ps", "--quiet", service).split()

    def states(self) -> dict[str, str]:
        """Return each container's health, or its state where it has no health, by name."""
        lines = self.dc("ps", "--all", "--format", "json").splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{")]
        return {row["Name"]: row["Health"] or row["State"] for row in rows}

    def block(self, name: str) -> None:
        """Run a named block of the runbook in a shell that knows `dc`. Raises CommandError."""
        runbook = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
        match = re.search(rf"^ *```sh {name}\n(.*?)^ *```", runbook, flags=re.DOTALL | re.MULTILINE)
        assert match is not None, name
        script = f'dc() {{ docker compose {" ".join(FILES)} "$@"; }}\n{match[1]}'
        self.engine.run("/bin/sh", "-eu", "-c", script, cwd=self.site)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database, which is not published, at its container's own address."""
        with psycopg.connect(self._database, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    @cached_property
    def _database(self) -> str:
        settings = (self.site / "deploy" / ".env").read_text(encoding="utf-8")
        (password,) = re.findall(r"^POSTGRES_PASSWORD=(\S+)$", settings, flags=re.MULTILINE)
        (container,) = self.containers("postgres")
        networks = self.engine.inspect(container)["NetworkSettings"]["Networks"]
        return f"postgresql://cinemeter:{password}@{networks[NETWORK]['IPAddress']}:5432/cinemeter"

    def client(self, key: str | None = None) -> httpx.Client:
        """A client of the API, through the proxy, with the customer's key or another one."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=URL, headers=headers, timeout=30, trust_env=False)

    def order(self, **fields: Any) -> str:
        """Order a film of bars, or what the fields say, and return its id."""
        body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P", **fields}
        with self.client() as client:
            answer = client.post("/v1/videos", json=body)
            assert answer.status_code < 300, answer.text
            return str(answer.json()["id"])

    def video(self, video: str) -> dict[str, Any]:
        """Return a film as the API shows it."""
        with self.client() as client:
            facts: dict[str, Any] = client.get(f"/v1/videos/{video}").raise_for_status().json()
            return facts

    def end_of(self, video: str, seconds: float = FILM_SECONDS) -> dict[str, Any]:
        """Wait for the end of a film and return it."""

        def ended() -> dict[str, Any] | None:
            facts = self.video(video)
            return facts if facts["status"] in FINAL else None

        facts: dict[str, Any] = until(ended, seconds, f"the end of {video}", pause=0.5)
        return facts

    def take_at_work(self, video: str, step: int = 2) -> tuple[str, str]:
        """Wait until a film's segment has done some steps, and return the service and the container that render it."""
        query = f"SELECT host FROM workers JOIN takes ON takes.id = take_id WHERE job_id = '{video}' AND step >= {step}"
        [(host,)] = until(lambda: self.ask(query), FILM_SECONDS, f"a take of {video} at work", pause=0.1)
        containers = [(service, each) for service in WORKERS for each in self.containers(service)]
        return next((service, each) for service, each in containers if each.startswith(host))

    def takes(self, video: str) -> list[str]:
        """Return the states of the takes of a film's segments, oldest first."""
        rows = self.ask(f"SELECT state FROM takes WHERE job_id = '{video}' AND kind = 'segment' ORDER BY fence")
        return [state for (state,) in rows]

    def failed_tries(self, video: str) -> tuple[int, int]:
        """Return how many takes of the film's units count as lost, and how many as ended in an error."""
        query = f"SELECT sum(takes_lost)::int, sum(takes_error)::int FROM units WHERE job_id = '{video}'"
        [(lost, errors)] = self.ask(query)
        return lost, errors


def measure(began: float) -> str:
    """Say how long ago a moment of time.monotonic was."""
    return f"{time.monotonic() - began:.1f} s"
