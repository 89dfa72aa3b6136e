"""A container of a rendered pod as plain processes: its command, user, mounts, variables and probes, without a runtime.

Under root the process gets mounts of its own by `unshare`, a file system that is read-only but for the pod's volumes,
the pod's user and groups, and no capabilities. Otherwise it is an ordinary child with the same command and variables.
Ports are mapped to free ones, as all pods share this machine.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.cli.ports import free_port
from tests.repo.sources import ROOT

# A clean file system: the interpreter, which may lie in a folder that is closed to others, and the pod's volumes.
_ENTER = """
if [ -n "$CLOSED" ]; then
    mount --bind "$PYTHON" "$SPARE"
    mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
    mkdir -p "$PYTHON"
    mount --bind "$SPARE" "$PYTHON"
fi
while [ "$1" != -- ]; do mount --bind "$1" "$2"; [ "$3" = rw ] || mount -o remount,bind,ro "$2"; shift 3; done
shift
mount -o remount,bind,ro /
cd "$WORKDIR"
exec "$@"
"""
_UNSHARE = ("unshare", "--mount", "--propagation", "private")


def why_not_caged() -> str | None:
    """Return why processes cannot get mounts and a user of their own here, or None."""
    if os.geteuid() != 0:
        return "only root may change users and mounts"
    if not all(map(shutil.which, ("unshare", "setpriv"))):
        return "unshare or setpriv is missing"
    done = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False, capture_output=True)
    return done.stderr.decode() if done.returncode else None


def image_facts(kind: str) -> tuple[list[str], dict[str, str], str]:
    """Return the entry point, variables and folder of an image of this kind, as its Dockerfile sets them at the end."""
    text = (ROOT / "deploy" / f"{kind}.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    stage = text[text.rindex("\nFROM ") :]
    (entry,) = re.findall(r"^ENTRYPOINT \[(.*)\]$", stage, re.M)
    variables = [part.split("=", 1) for line in re.findall(r"^ENV (.*)$", stage, re.M) for part in shlex.split(line)]
    (folder,) = re.findall(r"^WORKDIR (.*)$", stage, re.M)
    return shlex.split(entry.replace(",", " ")), {name: value for name, value in variables if name != "PATH"}, folder


@dataclass
class PodProcess:
    """Runs the containers of one pod. `secret` has the values of the release's Secret, `folder` the pod's volumes."""

    spec: dict[str, Any]
    secret: Mapping[str, str]
    folder: Path
    is_caged: bool

    def __post_init__(self) -> None:
        self.ports: dict[int, int] = {}
        self.spare = self.folder / "interpreter"
        self.spare.mkdir(parents=True)
        owner = self.spec["securityContext"]["fsGroup"]
        for volume in self.spec["volumes"]:
            assert volume.keys() == {"name", "emptyDir"}, "the volumes of the default values"
            place = self._volume(volume["name"])
            place.mkdir(parents=True)
            if self.is_caged:
                os.chown(place, 0, owner)
            place.chmod(0o2777)

    def _volume(self, name: str) -> Path:
        return self.folder / "volumes" / name

    def port(self, number: int) -> int:
        """Return the port of this machine that stands for one of the container."""
        return self.ports.setdefault(number, free_port())

    def variables(self, container: dict[str, Any]) -> dict[str, str]:
        """Return the variables that the container sees."""
        numbers = {str(port["containerPort"]) for port in container.get("ports", [])}
        variables = {}
        for each in container.get("env", []):
            name, source = each["name"], each.get("valueFrom", {})
            if "secretKeyRef" in source:
                variables[name] = self.secret[source["secretKeyRef"]["key"]]
            elif "fieldRef" in source:
                assert source["fieldRef"]["fieldPath"] == "metadata.uid"
                variables[name] = "3c1c6f0a-2f1b-4a77-9a52-5f0f9d1f6f10"
            else:
                is_port = name in ("CINEMETER_PORT", "CINEMETER_METRICS_PORT") and each["value"] in numbers
                variables[name] = str(self.port(int(each["value"]))) if is_port else each["value"]
        return variables

    def command(self, container: dict[str, Any], *instead: str) -> tuple[list[str], dict[str, str]]:
        """Return the command that runs the container (or `instead` in its place), and its variables."""
        kind = re.fullmatch(r"cinemeter-(api|worker):.*", container["image"])
        assert kind, container["image"]
        entry, variables, folder = image_facts(kind[1])
        variables |= self.variables(container)
        places = {each["mountPath"]: each for each in container.get("volumeMounts", [])}
        argv = list(instead) or [*container.get("command", entry), *container.get("args", [])]
        # What the images install for all users is here in the environment of the tests.
        variables |= {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }
        if not self.is_caged:
            local = {path: str(self._volume(each["name"])) for path, each in places.items()}
            variables = {name: local.get(value, value) for name, value in variables.items()}
            return argv, {**variables, "TMPDIR": local.get("/tmp", tempfile.gettempdir())}
        security = self.spec["securityContext"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        caps = [f"--{name}=-all" for name in ("bounding-set", "inh-caps", "ambient-caps")]
        user = [f"--reuid={security['runAsUser']}", f"--regid={security['runAsGroup']}"]
        binds: list[str] = []
        # /tmp comes last: the folders of this test are in it.
        for path, each in sorted(places.items(), key=lambda item: item[0] == "/tmp"):
            binds += [str(self._volume(each["name"])), path, "ro" if each.get("readOnly") else "rw"]
        settings = [f"{name}={value}" for name, value in variables.items()]
        setpriv = ["setpriv", *user, f"--groups={security['fsGroup']}", "--no-new-privs", *caps]
        closed = next((path for path in reversed(Path(sys.base_prefix).parents) if not path.stat().st_mode & 1), None)
        place = {"CLOSED": str(closed or ""), "PYTHON": sys.base_prefix, "SPARE": str(self.spare)}
        place |= {"WORKDIR": folder, "PATH": os.defpath}
        entered = [*_UNSHARE, "sh", "-euc", _ENTER, "sh", *binds, "--", *setpriv, "env", "-i", *settings, *argv]
        return entered, place

    def run(self, container: dict[str, Any], *instead: str) -> subprocess.CompletedProcess[str]:
        """Run a container that ends by itself."""
        argv, variables = self.command(container, *instead)
        return subprocess.run(
            argv, env=variables, cwd=self.folder, check=False, capture_output=True, text=True, timeout=300
        )

    @contextlib.contextmanager
    def running(self, container: dict[str, Any]) -> Iterator[psutil.Popen]:
        """Run a container that goes on; whatever is left of it at the end is killed."""
        argv, variables = self.command(container)
        log = self.folder / f"{container['name']}.log"
        with log.open("wb") as output:
            process = psutil.Popen(
                argv, env=variables, cwd=self.folder, stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield process
        finally:
            # The process leads a group of its own, which also has what it left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)

    def answers(self, probe: dict[str, Any], container: dict[str, Any]) -> bool:
        """Return whether a probe of the container is answered well now."""
        get = probe["httpGet"]
        (number,) = [port["containerPort"] for port in container["ports"] if port["name"] == get["port"]]
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{self.port(number)}{get['path']}", timeout=probe["timeoutSeconds"], verify=False
            )
        except httpx.TransportError:
            return False
        return answer.is_success

    def stop(self, process: psutil.Popen) -> int:
        """Ask the container's first process to stop; return its status. Raises TimeoutExpired after the pod's grace."""
        others = process.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        status = int(process.wait(self.spec.get("terminationGracePeriodSeconds", 30)))
        _, alive = psutil.wait_procs(others, timeout=5)
        assert not alive, alive
        return status
