"""Fixtures for every test: real PostgreSQL and Redis, a migrated database of its own, a session rolled back."""

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from xdist.scheduler import LoadScopeScheduling

import app
from app.cli.embedded import Servers, embedded
from app.db import Base, forget_engines, get_engine
from app.prices.seed import seed_book
from app.settings import get_settings
from tests.databases import Database, DatabasePool
from tests.live_service import Service, start, stop
from tests.session_guard import watch

pytest_plugins = ["tests.api_client", "tests.model_folder"]

ROOT = Path(__file__).parents[1]

# The shared service while it runs.
_services: list[Service] = []

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
    """Begin with the tests of the shared service, then with the long ones (`--no-loadscope-reorder` keeps this).

    A file that uses the service without the mark would start one more, so it is refused.
    """
    unmarked = {item.location[0] for item in items if _uses_service(item) and not _shares_service(item.location[0])}
    if unmarked:
        raise pytest.UsageError(f"these files use the shared service without its mark: {', '.join(sorted(unmarked))}")
    items.sort(key=lambda item: (not _shares_service(item.location[0]), not item.nodeid.startswith(LONG)))


def _uses_service(item: pytest.Item) -> bool:
    """Whether a test uses the shared service, and no fixture of its own by that name."""
    definitions = item._fixtureinfo.name2fixturedefs.get("service", ()) if isinstance(item, pytest.Function) else ()
    return bool(definitions) and definitions[-1].scope == "session"


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stop the shared service after its last test: an idle one takes a fifth of a core from all other tests."""
    if _services and (nextitem is None or not _shares_service(nextitem.location[0])):
        assert stop(_services.pop()) == 0


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
    with Database(servers.database_url) as database:
        engine = _engine(database.url)
        _migrate(database.url, engine)
        engine.dispose()
        yield database.name


@pytest.fixture(scope="session")
def shared_engine(servers: Servers, template: str) -> Iterator[Engine]:
    with Database(servers.database_url, template) as database:
        engine = _engine(database.url)
        yield engine
        engine.dispose()


@pytest.fixture(scope="session")
def databases(servers: Servers, template: str) -> Iterator[DatabasePool]:
    """Migrated databases without content."""
    pool = DatabasePool(servers.database_url, template)
    yield pool
    pool.drop()


@pytest.fixture(scope="session")
def databases_with_book(servers: Servers, template: str) -> Iterator[DatabasePool]:
    """Migrated databases with the default price book, in which the tests of the API begin."""
    pool = DatabasePool(servers.database_url, template, _seed_book)
    yield pool
    pool.drop()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A migrated database of this test's own, set as the configured one; for tests that commit.

    It has the default price book where the test uses `world` or `site`. A test that looks at pages, plans or
    statistics is marked `new_database`, as the files of a database that was used before have their traces.
    """
    pool: DatabasePool = request.getfixturevalue("databases_with_book" if _begins_with_book(request) else "databases")
    if request.node.get_closest_marker("new_database"):
        pool.drop()
    restorable = pool.get()
    monkeypatch.setenv("CINEMETER_DATABASE_URL", restorable.database.url)
    monkeypatch.setenv("CINEMETER_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield restorable.database.url
    pool.put(restorable)
    monkeypatch.undo()
    get_settings.cache_clear()


def _begins_with_book(request: pytest.FixtureRequest) -> bool:
    return not {"world", "site"}.isdisjoint(request.fixturenames)


def _seed_book(url: str) -> None:
    engine = _engine(url)
    with Session(engine) as session:
        # The first test that needs it may have set the clock.
        session.info["clock_at"] = datetime.now(UTC)  # noqa: TID251 — the clock of the machine, not of the service
        seed_book(session)
        session.commit()
    engine.dispose()


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """A database of this test's own without any table; for tests of migrations."""
    with Database(servers.database_url) as database:
        yield database.url
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
    """A whole service as a customer meets it, in a home with spaces in its path; shared by all tests of a run.

    What undresses somebody waits there for a moderator, so that the desk has something to show.
    """
    folder = tmp_path_factory.mktemp("a home with spaces")
    policy = folder / "moderation.toml"
    policy.write_text("[rules]\nreview = ['nudification']\n")
    _services.append(start(folder / "home", CINEMETER_MODERATION_POLICY=str(policy)))
    yield _services[0]
    while _services:
        stop(_services.pop())


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
