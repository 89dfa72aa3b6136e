"""PostgreSQL and Redis as children of this process: real servers out of wheels, nothing to install or configure."""

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
    """Where the two servers listen; both addresses carry their passwords."""

    database_url: str
    redis_url: str


class EmbeddedServers:
    """The servers of one home.

    The home's `servers.json` (readable by its user alone) keeps passwords, ports and the place of the data, so that
    the next start finds the same database. As an ordinary user the place is inside the home. As root it is a folder
    of the system (`app.cli.server_binaries`), owned by the unprivileged user that the servers run as.
    """

    def __init__(self, home: Path, *, throwaway: bool = False) -> None:
        """`throwaway` is for tests: data that need not survive a power cut is not flushed to the disk."""
        self.home = home.absolute()
        self._owner = servers_owner()
        make_private(self.home)
        self._record = read_record(self.home / RECORD)
        self.place = self._find_place()
        logs = self.home / "logs"
        make_private(logs)
        programs = reachable(postgres_programs() / "postgres", self._owner).parent
        self.postgres = Postgres(
            programs,
            self.place / "postgres",
            logs / "postgres.log",
            password=self._secret("postgres_password"),
            owner=self._owner,
            throwaway=throwaway,
        )
        self.redis = RedisServer(
            reachable(redis_program(), self._owner),
            self.place / "redis",
            logs / "redis.log",
            password=self._secret("redis_password"),
            owner=self._owner,
            note=self.home / ".redis.json",
        )

    def start(self, *, database_url: str = "", redis_url: str = "") -> Servers:
        """Start both, on the ports of last time where they are free, and return where they listen.

        A server whose URL is given runs elsewhere and is not started. Raises `unavailable` if a server does not come
        up; what was started is ended again.
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

    def tend(self) -> list[str]:
        """Start again, on its port, each server that has died; return their names."""
        revived = []
        for name, server in (("postgres", self.postgres), ("redis", self.redis)):
            if server.process and not server.running():
                server.start(server.port)
                revived.append(name)
        return revived

    def stop(self) -> None:
        """End both, Redis first; nothing depends on what it holds."""
        self.redis.stop()
        self.postgres.stop()

    def remove(self) -> None:
        """End both and remove their data, which under root lies outside the home."""
        self.stop()
        shutil.rmtree(self.place)

    def _secret(self, name: str) -> str:
        # URL-safe, so that the address needs no quoting; kept from the first start on.
        if name not in self._record:
            self._record[name] = secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")
            write_record(self.home / RECORD, self._record)
        return str(self._record[name])

    def _find_place(self) -> Path:
        if "place" not in self._record:
            if self._owner is None:
                place = "servers"
            else:
                _remove_orphans(self.home)
                place = str(system_folder() / f"home-{secrets.token_hex(8)}")
            self._record["place"] = place
            write_record(self.home / RECORD, self._record)
        # Relative inside the home, so that a home can be moved.
        place_path = self.home / str(self._record["place"])
        place_path.mkdir(mode=0o711 if self._owner else 0o700, exist_ok=True)
        if self._owner:
            (place_path / "home").write_text(str(self.home), encoding="utf-8")
        for name in ("postgres", "redis"):
            folder = place_path / name
            if not folder.exists():
                folder.mkdir(mode=0o700)
                if self._owner:
                    shutil.chown(folder, self._owner.uid, self._owner.gid)
        return place_path


def _remove_orphans(home: Path) -> None:
    """Remove the data of an earlier home at this very path, whose folder was deleted and with it the password."""
    for place in system_folder().glob("home-*"):
        if embedded_home(place) != home:
            continue
        data = place / "postgres" / "data"
        pid_file = data / "postmaster.pid"
        first = pid_file.read_text(encoding="utf-8").partition("\n")[0] if pid_file.exists() else ""
        if not (first.isdigit() and is_ours(int(first), data)):
            shutil.rmtree(place)


def embedded_home(place: Path) -> Path | None:
    """Return the home whose data lies in `place`, or None while another process makes or removes it."""
    try:
        return Path((place / "home").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


@contextmanager
def embedded(home: Path, *, throwaway: bool = False) -> Iterator[Servers]:
    """Hold the home, run both servers for the block, and end them after it. Raises `conflict`, `unavailable`."""
    with claim_home(home):
        servers = EmbeddedServers(home, throwaway=throwaway)
        try:
            yield servers.start()
        finally:
            if throwaway:
                servers.remove()
            else:
                servers.stop()
