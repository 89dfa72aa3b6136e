"""`cinemeter doctor`: check everything that the service needs on this machine, and say how to fix problems."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from rich.table import Table

from app.catalog.memory_estimate import predict_peak
from app.catalog.models import VideoModel, load_catalog
from app.cli.doctor_database import check_database
from app.cli.doctor_marks import check_marks
from app.cli.doctor_security import check_security
from app.cli.embedded import embedded_home
from app.cli.health_check import HealthCheck
from app.cli.home import is_claimed
from app.cli.server_binaries import (
    INSTALL_HINT,
    SYSTEM_FOLDERS,
    postgres_programs,
    reachable,
    redis_program,
    servers_owner,
)
from app.errors import AppError
from app.settings import get_settings
from app.storage import open_storage

_PYTHON_MIN = (3, 11)
_REDIS_MIN = (6, 2)
_DISK_BYTES_MIN = 2 * 2**30
_TORCH_SECONDS = 120.0
# The application never imports torch, so a separate process checks it and prints JSON.
_TORCH_PROBE = """
import json, torch
names = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
print(json.dumps({"version": torch.__version__, "devices": [
    {"name": torch.cuda.get_device_name(each), "bytes": torch.cuda.get_device_properties(each).total_memory}
    for each in names]}))
"""


def diagnose(home: Path) -> list[HealthCheck]:
    """Run every check and return the results. Only a probe file is written, and it is removed again."""
    checks: tuple[Callable[[], list[HealthCheck]], ...] = (
        _python,
        lambda: _home(home),
        _leftovers,
        lambda: _port(home),
        _postgres,
        _redis,
        _storage,
        _ffmpeg,
        _models,
        check_marks,
        check_security,
    )
    return [result for check in checks for result in check()]


def report_table(results: list[HealthCheck]) -> Table:
    """Return the results as a table."""
    table = Table(show_lines=False)
    for column in ("part", "", "result", "how to fix"):
        table.add_column(column, overflow="fold")
    marks = {True: "[green]ok[/green]", None: "[yellow]note[/yellow]", False: "[red]missing[/red]"}
    for each in results:
        table.add_row(each.part, marks[each.ok], each.result, "" if each.ok else each.fix)
    return table


def _python() -> list[HealthCheck]:
    version = ".".join(str(number) for number in sys.version_info[:3])
    return [HealthCheck("Python", sys.version_info >= _PYTHON_MIN, version, "Use Python 3.11 or newer.")]


def _home(home: Path) -> list[HealthCheck]:
    if is_claimed(home):
        return [HealthCheck("home", True, f"{home} (in use by a running service)")]
    folder = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    summary = f"{home}, {free / 2**30:.1f} GiB free"
    fix = "Films and the database need disk space: free some, or choose another --home."
    return [HealthCheck("home", free >= _DISK_BYTES_MIN, summary, fix)]


def _leftovers() -> list[HealthCheck]:
    """Check for databases of deleted homes: under root they lie outside their homes, and stay behind."""
    folders = (folder for folder in SYSTEM_FOLDERS if folder.is_dir())
    places = {place: embedded_home(place) for folder in folders for place in folder.glob("home-*")}
    gone = sorted(str(place) for place, home in places.items() if home is not None and not home.exists())
    if not gone:
        return []
    return [HealthCheck("leftovers", None, f"{len(gone)} databases of deleted homes", f"rm -r {' '.join(gone)}")]


def _port(home: Path) -> list[HealthCheck]:
    settings = get_settings()
    with socket.socket() as probe:
        probe.settimeout(1.0)
        in_use = settings.port != 0 and probe.connect_ex((settings.host, settings.port)) == 0
    if in_use and not is_claimed(home):
        fix = "`cinemeter up` chooses a free port by itself; or set CINEMETER_PORT."
        return [HealthCheck("port", None, f"{settings.port} is in use by another program", fix)]
    return [HealthCheck("port", True, f"{settings.host}:{settings.port}")]


def _postgres() -> list[HealthCheck]:
    if not get_settings().database_url:
        return _embedded("PostgreSQL", lambda: postgres_programs() / "postgres")
    return check_database()


def _redis() -> list[HealthCheck]:
    url = get_settings().redis_url
    if not url:
        return _embedded("Redis", redis_program)
    try:
        with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            facts: Any = client.info()
    except (RedisError, ValueError) as error:
        return [HealthCheck("Redis", False, str(error), "Check CINEMETER_REDIS_URL, and that the server runs.")]
    version, policy = str(facts["redis_version"]), str(facts.get("maxmemory_policy", "noeviction"))
    results = [
        HealthCheck(
            "Redis",
            tuple(int(number) for number in version.split(".")[:2]) >= _REDIS_MIN,
            f"{version}, external",
            "Use Redis 6.2 or newer.",
        )
    ]
    if policy != "noeviction":
        fix = "Set maxmemory-policy to noeviction: an evicted wake-up delays work until the scheduler's next round."
        results.append(HealthCheck("Redis policy", None, policy, fix))
    return results


def _embedded(part: str, program: Callable[[], Path]) -> list[HealthCheck]:
    try:
        program_path = reachable(program(), servers_owner())
        answer = subprocess.run([program_path, "--version"], capture_output=True, text=True, check=True, cwd="/")
    except (AppError, OSError, subprocess.CalledProcessError) as error:
        return [HealthCheck(part, False, str(error), INSTALL_HINT)]
    return [HealthCheck(part, True, f"{answer.stdout.strip()[:48]}, embedded")]


def _storage() -> list[HealthCheck]:
    url = get_settings().storage()
    fix = "Check CINEMETER_STORAGE_URL, the keys, and that the folder or bucket exists and is writable."
    folder = Path(url.removeprefix("file:"))
    if url.startswith("file:") and not folder.exists():
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        return [HealthCheck("storage", os.access(parent, os.W_OK), f"{url}, created at first use", fix)]
    try:
        storage = open_storage(url)
        probe = "doctor/probe"
        storage.put_file(probe, Path(__file__), "text/plain")
        size = storage.stat(probe)
        storage.delete(probe)
    except Exception as error:  # noqa: BLE001 - any error of the storage is the result
        return [HealthCheck("storage", False, f"{url}: {error}", fix)]
    return [HealthCheck("storage", size is not None, url, fix)]


def _ffmpeg() -> list[HealthCheck]:
    fix = "Install `cinemeter[worker]`, which brings imageio-ffmpeg, or set CINEMETER_FFMPEG to a binary with libx264."
    binary = get_settings().ffmpeg or _shipped_ffmpeg()
    if not binary:
        return [HealthCheck("ffmpeg", None, "not installed; this machine can serve the API but cannot render", fix)]
    try:
        answer = subprocess.run([binary, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return [HealthCheck("ffmpeg", False, str(error), fix)]
    return [HealthCheck("ffmpeg", "libx264" in answer.stdout, binary, fix)]


def _shipped_ffmpeg() -> str:
    package = find_spec("imageio_ffmpeg")
    if package is None or not package.submodule_search_locations:
        return ""
    folder = Path(next(iter(package.submodule_search_locations))) / "binaries"
    return next((str(path) for path in sorted(folder.glob("ffmpeg-*"))), "")


def _models() -> list[HealthCheck]:
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _TORCH_PROBE], capture_output=True, text=True, check=False, timeout=_TORCH_SECONDS
    )
    if answer.returncode != 0:
        fix = "Install `cinemeter[worker]` on machines that render; the API runs without it."
        return [HealthCheck("torch", None, "not installed", fix)]
    facts = json.loads(answer.stdout)
    devices: list[dict[str, Any]] = facts["devices"]
    named = ", ".join(f"{each['name']} ({each['bytes'] / 2**30:.0f} GiB)" for each in devices)
    results = [HealthCheck("torch", True, f"{facts['version']}, {named or 'CPU only'}")]
    most = max((int(each["bytes"]) for each in devices), default=0)
    for model in load_catalog(get_settings().catalog_dir).values():
        results.append(_model(model, most))
    return results


def _model(model: VideoModel, gpu_bytes: int) -> HealthCheck:
    part = f"model {model.id}"
    if model.architecture is None or model.pool == "demo":
        return HealthCheck(part, True, "runs on any machine")
    sizes = {size for ratios in model.native.values() for size in ratios.values()}
    peaks = {size: predict_peak(model, *size, model.frames_max).total for size in sizes}
    fitting = sorted(size for size, peak in peaks.items() if peak <= gpu_bytes)
    least, most = (round(bound(peaks.values()) / 2**30) for bound in (min, max))
    needed = f"{most} GiB" if least == most else f"{least} to {most} GiB"
    if len(fitting) == len(peaks):
        return HealthCheck(part, True, f"fits at every size ({needed})")
    if fitting:
        return HealthCheck(part, None, f"fits at {len(fitting)} of {len(peaks)} sizes ({needed})", "")
    return HealthCheck(part, None, f"needs {needed} of GPU memory", "A larger GPU, or another model.")
