"""Fixtures for every test: real PostgreSQL and Redis, a migrated database of its own, a session rolled back."""

import importlib
import itertools
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from xdist.scheduler import LoadScopeScheduling

import app
from app.cli.embedded import Servers, embedded
from app.db import Base, forget_engines, get_engine
from app.settings import get_settings
from tests.live_service import Service, start, stop
from tests.session_guard import watch

pytest_plugins = ["tests.api_client"]

ROOT = Path(__file__).parents[1]

_numbers = itertools.count(1)

# Where the tests are that last longest. Begun last, one of two processes would end long after the other.
LONG = (
    "tests/faults/",
    "tests/deploy/",
    "tests/app/cli/",
    "tests/app/dispatch/test_history.py",
    "tests/app/wallet/test_wallet_model.py",
    "tests/workers/demo_model/",
    "tests/journeys/",
)


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Deal tests out by files; the files that share the running service are one scope, so that it is started once.

    xdist's own groups have no effect with this version of pytest: it no longer reads the name that they are written to.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return SERVICE if _shares_service(path) else path


SERVICE = "service"


@cache
def _shares_service(path: str) -> bool:
    return f'xdist_group("{SERVICE}")' in (ROOT / path).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    """Schedule by files and the shared service where `--dist loadfile` is asked for."""
    return FileScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of the shared service, then with the long ones (`--no-loadscope-reorder` keeps this)."""
    items.sort(key=lambda item: (not _shares_service(item.location[0]), not item.nodeid.startswith(LONG)))


@pytest.fixture(scope="session")
def watched_waits() -> Iterator[list[str]]:
    """What waited for the store, Redis or another server with a transaction open."""
    with watch() as waits:
        yield waits


@pytest.fixture(autouse=True)
def waits(watched_waits: list[str]) -> Iterator[list[str]]:
    """The waits of this test, which fails if there are any at its end."""
    watched_waits.clear()
    yield watched_waits
    assert not watched_waits, "\n".join(dict.fromkeys(watched_waits))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers named by CINEMETER_DATABASE_URL and CINEMETER_REDIS_URL, else embedded ones for this run.

    On given servers the tests make databases of their own beside what is there.
    """
    settings = get_settings()
    if settings.database_url and settings.redis_url:
        yield Servers(settings.database_url, settings.redis_url)
        return
    with embedded(tmp_path_factory.mktemp("servers") / "home", throwaway=True) as servers:
        yield servers


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """The name of a migrated, empty database, from which each test's own is cloned."""
    with _database(servers.database_url) as (name, url):
        engine = _engine(url)
        _migrate(url, engine)
        engine.dispose()
        yield name


@pytest.fixture(scope="session")
def shared_engine(servers: Servers, template: str) -> Iterator[Engine]:
    with _database(servers.database_url, template) as (_, url):
        engine = _engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def database_url(servers: Servers, template: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A migrated database of this test's own, set as the configured one; for tests that commit."""
    with _database(servers.database_url, template) as (_, url):
        monkeypatch.setenv("CINEMETER_DATABASE_URL", url)
        monkeypatch.setenv("CINEMETER_HOME", str(tmp_path / "home"))
        get_settings.cache_clear()
        yield url
        forget_engines()
        monkeypatch.undo()
        get_settings.cache_clear()


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """A database of this test's own without any table; for tests of migrations."""
    with _database(servers.database_url) as (_, url):
        yield url
        forget_engines()


@pytest.fixture
def engine(database_url: str) -> Engine:
    """The engine of this test's own database, the same that `app.db.get_engine()` returns."""
    return get_engine()


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session. Everything is rolled back at the end of the test, unless the test has a database of its own."""
    if "database_url" in request.fixturenames:
        with Session(request.getfixturevalue("engine"), expire_on_commit=False) as session:
            yield session
        return
    engine: Engine = request.getfixturevalue("shared_engine")
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as session:
            yield session
        outer.rollback()


@pytest.fixture
def redis_url(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty Redis, set as the configured one."""
    with Redis.from_url(servers.redis_url) as client:
        client.flushdb()
    monkeypatch.setenv("CINEMETER_REDIS_URL", servers.redis_url)
    get_settings.cache_clear()
    yield servers.redis_url
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A whole service as a customer meets it, in a home with spaces in its path; shared by all tests of a run."""
    running = start(tmp_path_factory.mktemp("a home with spaces") / "home")
    yield running
    assert stop(running) == 0


class _database:
    """A database on the server at `url`, dropped at the end of the block."""

    def __init__(self, url: str, template: str = "template0") -> None:
        self.url = url
        self.template = template
        # Parallel runs share an outside server, so a name holds the process and a number.
        self.name = f"cinemeter_test_{os.getpid()}_{next(_numbers)}"

    def __enter__(self) -> tuple[str, str]:
        self._run(f"CREATE DATABASE {self.name} TEMPLATE {self.template} STRATEGY FILE_COPY")
        return self.name, self.url.rsplit("/", 1)[0] + f"/{self.name}"

    def __exit__(self, *_: object) -> None:
        self._run(f"DROP DATABASE {self.name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def _engine(url: str) -> Engine:
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))


def _migrate(url: str, engine: Engine) -> None:
    folder = Path(app.__file__).parent
    if (folder / "migrations" / "env.py").exists():
        importlib.import_module("app.cli.migrate").upgrade(url)
        forget_engines()
        return
    for path in sorted(folder.glob("*/*tables.py")):
        importlib.import_module(f"app.{path.parent.name}.{path.stem}")
    Base.metadata.create_all(engine)
