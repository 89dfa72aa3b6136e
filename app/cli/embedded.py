"""Embedded PostgreSQL and Redis: real servers from wheels, run as child processes, with nothing to configure."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.cli.home import claim_home, make_private, read_record, write_record
from app.cli.postgres import Postgres
from app.cli.redis_server import RedisServer
from app.cli.server_binaries import postgres_programs, reachable, redis_program, servers_owner, system_folder
from app.cli.subprocesses import is_ours

RECORD = "servers.json"


class Servers(NamedTuple):
    """The URLs of the two servers, including their passwords."""

    database_url: str
    redis_url: str


class EmbeddedServers:
    """The servers of one home.

    The home's `servers.json` (readable only by its user) keeps the passwords, the ports and the data folder, so that
    the next start uses the same database. For an ordinary user the data folder is inside the home. Under root it is a
    system folder (`app.cli.server_binaries`), owned by the unprivileged user that the servers run as.
    """

    def __init__(self, home: Path, *, throwaway: bool = False) -> None:
        """`throwaway` is for tests: data that need not survive a power failure is not flushed to disk."""
        self.home = home.absolute()
        self._owner = servers_owner()
        make_private(self.home)
        self._record = read_record(self.home / RECORD)
        self.data_folder = self._find_data_folder()
        logs = self.home / "logs"
        make_private(logs)
        programs = reachable(postgres_programs() / "postgres", self._owner).parent
        self.postgres = Postgres(
            programs,
            self.data_folder / "postgres",
            logs / "postgres.log",
            password=self._secret("postgres_password"),
            owner=self._owner,
            throwaway=throwaway,
        )
        self.redis = RedisServer(
            reachable(redis_program(), self._owner),
            self.data_folder / "redis",
            logs / "redis.log",
            password=self._secret("redis_password"),
            owner=self._owner,
            pid_record=self.home / ".redis.json",
        )

    def start(self, *, database_url: str = "", redis_url: str = "") -> Servers:
        """Start both servers, on their previous ports if those are free, and return their URLs.

        A server whose URL is passed is external and not started. Raises AppError `unavailable` if a server does not
        start; the other one is then stopped again.
        """
        try:
            if not database_url:
                self.postgres.start(int(self._record.get("postgres_port", 0)))
                self._record["postgres_port"] = self.postgres.port
            if not redis_url:
                self.redis.start(int(self._record.get("redis_port", 0)))
                self._record["redis_port"] = self.redis.port
        except BaseException:
            self.stop()
            raise
        servers = Servers(database_url or self.postgres.url, redis_url or self.redis.url)
        self._record |= servers._asdict()
        write_record(self.home / RECORD, self._record)
        return servers

    def restart_stopped(self) -> list[str]:
        """Restart, on its port, each server that has exited; return their names."""
        restarted = []
        for name, server in (("postgres", self.postgres), ("redis", self.redis)):
            if server.process and not server.running():
                server.start(server.port)
                restarted.append(name)
        return restarted

    def stop(self) -> None:
        """Stop both servers, Redis first; nothing depends on its data."""
        self.redis.stop()
        self.postgres.stop()

    def remove(self) -> None:
        """Stop both servers and remove their data, which under root lies outside the home."""
        self.stop()
        shutil.rmtree(self.data_folder)

    def _secret(self, name: str) -> str:
        # URL-safe, so that the URL needs no quoting; kept from the first start on.
        if name not in self._record:
            self._record[name] = secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")
            write_record(self.home / RECORD, self._record)
        return str(self._record[name])

    def _find_data_folder(self) -> Path:
        if "place" not in self._record:
            if self._owner is None:
                location = "servers"
            else:
                _remove_orphans(self.home)
                location = str(system_folder() / f"home-{secrets.token_hex(8)}")
            self._record["place"] = location
            write_record(self.home / RECORD, self._record)
        # Relative inside the home, so that a home can be moved.
        data_folder = self.home / str(self._record["place"])
        data_folder.mkdir(mode=0o711 if self._owner else 0o700, exist_ok=True)
        if self._owner:
            (data_folder / "home").write_text(str(self.home), encoding="utf-8")
        for name in ("postgres", "redis"):
            folder = data_folder / name
            if not folder.exists():
                folder.mkdir(mode=0o700)
                if self._owner:
                    shutil.chown(folder, self._owner.uid, self._owner.gid)
        return data_folder


def _remove_orphans(home: Path) -> None:
    """Remove the data of an earlier home at this path, whose folder was deleted and with it the password."""
    for folder in system_folder().glob("home-*"):
        if embedded_home(folder) != home:
            continue
        data = folder / "postgres" / "data"
        pid_file = data / "postmaster.pid"
        first = pid_file.read_text(encoding="utf-8").partition("\n")[0] if pid_file.exists() else ""
        if not (first.isdigit() and is_ours(int(first), data)):
            shutil.rmtree(folder)


def embedded_home(folder: Path) -> Path | None:
    """Return the home whose data is in this folder, or None while another process creates or removes it."""
    try:
        return Path((folder / "home").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


@contextmanager
def embedded(home: Path, *, throwaway: bool = False) -> Iterator[Servers]:
    """Lock the home and run both servers during the block. Raises AppError `conflict`, `unavailable`."""
    with claim_home(home):
        servers = EmbeddedServers(home, throwaway=throwaway)
        try:
            yield servers.start()
        finally:
            if throwaway:
                servers.remove()
            else:
                servers.stop()
