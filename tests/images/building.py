"""The images, built by buildah on a base made of Debian's packages."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.images.pip_mounts import pip_mounts
from tests.images.tools import PATH, MissingToolError, run_command
from tests.repo.sources import ROOT

HERE = Path(__file__).parent
BUILD_SECONDS = 1800
STORE_BYTES_MAX = 12 * 2**30
# The packages of the base, beside Debian's smallest set.
BASE = ("ca-certificates", "python3", "python3-venv", "python-is-python3")
# The servers of the stand-ins, all in one file system.
SERVERS = ("bash", "haproxy", "postgresql-15", "prometheus", "python3", "redis-server", "wget")
# What compose.yaml takes from registries: the image's name there, and the user it runs as here.
STAND_INS = {"postgres": "root", "redis": "root", "seaweedfs": "root", "haproxy": "haproxy", "prometheus": "nobody"}
STAND_IN_BASE = "localhost/cinemeter-stand-in:base"
OURS = ("cinemeter-api", "cinemeter-worker")


class Builder:
    """buildah with a store of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = folder / "buildah"
        store.mkdir(parents=True, exist_ok=True)
        # What a build that was killed left there is gone at the next one.
        temporary = folder / "temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        config = store / "storage.conf"
        lines = ["[storage]", 'driver = "overlay"', f'graphroot = "{store}/graph"', f'runroot = "{store}/run"']
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._environment = {
            **os.environ,  # noqa: TID251 — handed on to the programs
            "PATH": PATH,
            "CONTAINERS_STORAGE_CONF": str(config),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(temporary),
        }

    def run(self, *command: str | Path) -> str:
        """Run a program and return what it wrote. Raises CommandError."""
        nice = ("nice", "-n", "10")
        return run_command(*nice, *command, environment=self._environment, cwd=ROOT, seconds=BUILD_SECONDS).stdout

    def image_id(self, name: str) -> str | None:
        """Return the id of an image, which Docker gives it too, or None. What is built here is under `localhost/`."""
        tagged = name if ":" in name else f"{name}:latest"
        for image in json.loads(self.run("buildah", "images", "--json")):
            if {tagged, f"localhost/{tagged}"} & set(image.get("names") or ()):
                return str(image["id"])
        return None

    def base(self) -> str:
        """Make the image that our Dockerfiles begin with, if it is not there yet, and return its name."""
        froms = {
            name
            for path in sorted((ROOT / "deploy").glob("*.Dockerfile"))
            for name in re.findall(r"^FROM (\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        }
        (name,) = froms
        match = re.fullmatch(r"python:([\d.]+)-slim-(\w+)", name)
        assert match is not None, name
        image = self.file_system(f"docker.io/library/{name}", match[2], BASE)
        version = self.python_version(image)
        if version != match[1]:
            raise MissingToolError(f"Debian {match[2]} has Python {version}, and {name} is not a base made of it")
        return name

    def python_version(self, image: str) -> str:
        """Return the version of Python in an image, to its minor number."""
        container = self.run("buildah", "from", "--pull-never", image).strip()
        try:
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            return self.run("buildah", "run", container, "python", "-c", code).strip()
        finally:
            self.run("buildah", "rm", container)

    def file_system(self, name: str, suite: str, packages: tuple[str, ...]) -> str:
        """Make an image out of Debian's packages, with the sources of this machine's apt, unless it is there."""
        contents = f"{suite} {' '.join(packages)}"
        made = f"localhost/file-system:{hashlib.sha256(contents.encode()).hexdigest()[:16]}"
        if self.image_id(made) is None:
            archive = self.folder / "base.tar"
            self.run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", suite, archive)
            container = self.run("buildah", "from", "scratch").strip()
            self.run("buildah", "add", "--quiet", container, archive, "/")
            path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            self.run("buildah", "config", "--env", f"PATH={path}", container)
            self.run("buildah", "commit", "--quiet", "--format", "docker", "--rm", container, made)
            archive.unlink()
        self.run("buildah", "tag", made, name)
        return name

    def build(self, dockerfile: Path, name: str, context: Path, *options: str) -> None:
        """Build one image, with the layers of earlier builds where nothing changed below them."""
        before = self.image_id(name)
        fixed = ("--format", "docker", "--layers", "--isolation", "chroot", "--pull-never")
        self.run("buildah", "build", *fixed, *options, "--file", dockerfile, "--tag", name, context)
        if before not in (None, self.image_id(name)):
            self.run("buildah", "rmi", str(before))  # else each change of the code would leave gigabytes


def build_images(folder: Path, torch_index: str) -> list[str]:
    """Build everything that compose.yaml runs, and return the names of the images. Prints how long each took."""
    _limit_store(folder / "buildah")
    builder = Builder(folder)
    with timed("base, by mmdebstrap"):
        builder.base()
    options = ["--network", "host", *pip_mounts(folder)]
    for name in OURS:
        dockerfile = ROOT / "deploy" / f"{name.removeprefix('cinemeter-')}.Dockerfile"
        index = ["--build-arg", f"TORCH_INDEX={torch_index}"] if torch_index and name == "cinemeter-worker" else []
        with timed(f"deploy/{dockerfile.name}, unmodified, by buildah"):
            builder.build(dockerfile, name, ROOT, *options, *index)
    with timed("stand-ins for the images of registries"):
        stand_ins = build_stand_ins(builder)
    return [*OURS, *stand_ins]


def build_stand_ins(builder: Builder) -> list[str]:
    """Build an image for each that compose.yaml takes from a registry, under its name, and return the names."""
    builder.file_system(STAND_IN_BASE, "bookworm", SERVERS)
    context = builder.folder / "stand-in"
    context.mkdir(exist_ok=True)
    shutil.copy(HERE / "stand_in.py", context)
    rclone = shutil.which("rclone", path=sysconfig.get_path("scripts"))
    assert rclone, "rclone is missing; `make setup` installs it"
    shutil.copy(rclone, context)
    names = foreign_images()
    for name in names:
        role = role_of(name)
        arguments = ("--build-arg", f"ROLE={role}", "--build-arg", f"RUN_AS={STAND_INS[role]}")
        builder.build(HERE / "stand_in.Dockerfile", name, context, *arguments)
    return names


def foreign_images() -> list[str]:
    """Return the images of compose.yaml that are not built out of this repository."""
    text = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    return [name for name in re.findall(r"^ +image: (\S+)", text, flags=re.MULTILINE) if name not in OURS]


def role_of(image: str) -> str:
    """Return an image's name without its owner and its version."""
    return image.partition(":")[0].rpartition("/")[2]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took."""
    began = time.monotonic()
    yield
    print(f"  {time.monotonic() - began:6.1f} s  {what}", flush=True)


def _limit_store(store: Path) -> None:
    """Remove the layers of earlier builds where they have grown too large."""
    if store.exists():
        counted = subprocess.run(["du", "-sk", store], capture_output=True, text=True, check=True)
        if 1024 * int(counted.stdout.split()[0]) > STORE_BYTES_MAX:
            print(f"{store} has grown beyond {STORE_BYTES_MAX >> 30} GiB, and is made anew.", flush=True)
            shutil.rmtree(store)
