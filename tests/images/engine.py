"""Docker's engine for the tests, in a network of its own, and the installation that Compose makes on it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.images.building import Builder
from tests.images.tools import PATH, CommandError, run_command
from tests.repo.sources import ROOT

START_SECONDS = 60
COMMAND_SECONDS = 300
# The addresses of networks without a subnet of their own; `front` has one.
POOL = "base=172.31.0.0/16,size=24"


class Engine:
    """A running dockerd, asked by its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Compose would prefer variables of this shell to those of `.env`.
        self.environment = {
            "PATH": PATH,
            "DOCKER_HOST": "unix:///run/docker.sock",
            "DOCKER_CONFIG": str(folder / "client"),
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "plain",
        }

    def docker(self, *arguments: str | Path) -> str:
        """Run Docker's client and return what it wrote on standard output. Raises CommandError."""
        return self.run("docker", *arguments)[0]

    def run(self, *command: str | Path, cwd: Path = ROOT, seconds: float = COMMAND_SECONDS) -> tuple[str, str]:
        """Run a program that may ask the engine, and return what it wrote on both outputs. Raises CommandError."""
        done = run_command(*command, environment=self.environment, cwd=cwd, seconds=seconds)
        return done.stdout, done.stderr

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what Docker knows of a container."""
        facts: dict[str, Any] = json.loads(self.docker("inspect", container))[0]
        return facts

    def load(self, builder: Builder, name: str) -> None:
        """Hand an image on from buildah, unless it is there: both give it the same id."""
        wanted = builder.image_id(name)
        assert wanted is not None, f"{name} is not built"
        present = self.docker("images", "--no-trunc", "--quiet", name).strip()
        if present.startswith(f"sha256:{wanted}"):
            return
        archive = self.folder / "image.tar"
        archive.unlink(missing_ok=True)
        builder.run("buildah", "push", "--quiet", wanted, f"docker-archive:{archive}:{name}")
        self.docker("load", "--quiet", "--input", archive)
        archive.unlink()

    def clear(self) -> None:
        """Remove all containers, networks and volumes."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        self.docker("network", "prune", "--force")
        if volumes := self.docker("volume", "ls", "--quiet").split():
            self.docker("volume", "rm", "--force", *volumes)


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """Run dockerd. Its images are kept in `folder`; its sockets lie in a /run of these namespaces."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    engine = Engine(folder)
    options = ["--data-root", folder / "docker", "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]
    options += ["--host", engine.environment["DOCKER_HOST"], "--default-address-pool", POOL, "--log-level", "error"]
    # Containers reach only one another: nothing is filtered or forwarded.
    options += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    path = folder / "dockerd.log"
    with path.open("wb") as log:
        daemon = subprocess.Popen(["dockerd", *options], env=engine.environment, stdout=log, stderr=log)
    try:
        until(lambda: daemon.poll() is not None or _answers(engine), START_SECONDS, f"an answer of dockerd; see {path}")
        assert daemon.poll() is None, f"dockerd has ended; see {path}"
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(timeout=START_SECONDS)


def _answers(engine: Engine) -> bool:
    try:
        return bool(engine.docker("info", "--format", "{{.ServerVersion}}"))
    except CommandError:
        return False


def until(condition: Any, seconds: float, what: str, pause: float = 0.25) -> Any:
    """Wait until a condition holds, and return its value. Raises TimeoutError, with what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
