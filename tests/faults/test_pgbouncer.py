"""The service behind PgBouncer in transaction mode: each transaction may run on another connection of the server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import make_url

from app import db_connections
from app.cli.doctor_database import check_database
from app.cli.migrate import set_time_outs
from app.db import TIME_OUTS, forget_engines, get_engine, long_work, transaction
from app.process_role import name_process
from app.reports.audit import audit_books
from app.settings import get_settings
from app.webhooks.secret import key_of
from tests.api_client import World
from tests.app.net.receiver import Receiver
from tests.app.webhooks.couriers import courier_thread
from tests.faults.pgbouncer import pgbouncer

ORDERS = 12


@pytest.fixture
def engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine of an API whose database is reached through PgBouncer, with the settings of the runbook."""
    with get_engine().begin() as connection:
        set_time_outs(connection)
    forget_engines()
    with pgbouncer(database_url) as url:
        for name, value in {"URL": url, "PREPARE": "0", "PING_SECONDS": "0"}.items():
            monkeypatch.setenv(f"CINEMETER_DATABASE_{name}", value)
        monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
        get_settings.cache_clear()
        key_of.cache_clear()
        name_process("api")
        yield get_engine()
        name_process("cli")
        forget_engines()


def test_orders_takes_settlements_and_webhooks_go_through_pgbouncer(
    world: World, database_url: str, redis_url: str
) -> None:
    with Receiver() as receiver:
        hook = {"url": receiver.url("/ok"), "event_types": ["video.completed"]}
        assert world.post("/v1/webhook_endpoints", hook).status_code == 200

        def order(number: int) -> str:
            body = {"model": "synthetic", "prompt": f"bars {number}", "seconds": 1, "resolution": "480P"}
            answer = world.post("/v1/videos", body)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["id"])

        with ThreadPoolExecutor(6) as pool:
            videos = list(pool.map(order, range(ORDERS)))
        assert len(set(videos)) == ORDERS
        world.work()
        states = {world.get(f"/v1/videos/{video}").json()["status"] for video in videos}
        assert states == {"completed"}
        with courier_thread():
            assert receiver.wait_for(lambda requests: len(requests) == ORDERS)
    with transaction() as session:
        assert audit_books(session) == []


def test_the_database_knows_who_is_connected_and_ends_what_stands_still(engine: Engine, database_url: str) -> None:
    with transaction() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(database_url) as direct:
            query = "SELECT application_name FROM pg_stat_activity WHERE pid = %s"
            assert direct.execute(query, (pid,)).fetchone() == ("cinemeter-api",)
        for name, value in TIME_OUTS.items():
            assert session.scalar(text("SELECT current_setting(:name)"), {"name": name}) == value
    assert {each.part: each.ok for each in check_database()}["database time-outs"]


def test_an_exception_from_the_time_outs_ends_with_its_transaction(engine: Engine) -> None:
    show = text("SHOW idle_in_transaction_session_timeout")
    with transaction() as session:
        with long_work(session, idle_seconds=600):
            assert session.scalar(show) == "10min"
        assert session.scalar(show) == "15s"
    with transaction() as session, long_work(session, idle_seconds=600):
        pass
    with transaction() as session:
        assert session.scalar(show) == "15s"


@pytest.mark.parametrize(("ping_seconds", "patient"), [("0.1", False), ("0", True)])
def test_who_waits_in_a_saturated_pooler_is_not_taken_for_dead(
    database_url: str, monkeypatch: pytest.MonkeyPatch, ping_seconds: str, patient: bool
) -> None:
    """A ping at check-out would wait in the pooler's queue too, and each that is given up makes the queue longer."""
    monkeypatch.setenv("CINEMETER_DATABASE_PREPARE", "0")
    monkeypatch.setenv("CINEMETER_DATABASE_PING_SECONDS", ping_seconds)
    # One that was in use just now is not asked.
    monkeypatch.setattr(db_connections, "FRESH_SECONDS", 0.0)
    get_settings.cache_clear()
    connections: list[object] = []
    with pgbouncer(database_url, pool_size=1) as url, ThreadPoolExecutor(1) as pool:
        engine = get_engine(url)
        event.listen(engine, "connect", lambda connection, _record: connections.append(connection))

        def ask() -> int:
            with transaction(engine) as session:
                return int(session.scalar(text("SELECT 1")) or 0)

        assert pool.submit(ask).result(60) == 1
        with psycopg.connect(url) as busy:
            busy.execute("SELECT 1")
            waiting = pool.submit(ask)
            while not (clients_waiting(url) if patient else len(connections) > 1):
                assert not waiting.done()
            busy.rollback()
        error = waiting.exception(60)
    if patient:
        assert error is None
        assert len(connections) == 1
    forget_engines()


def clients_waiting(url: str) -> int:
    """Return how many clients wait for a connection of the server, as PgBouncer says."""
    console = make_url(url).set(database="pgbouncer").render_as_string(hide_password=False)
    with psycopg.connect(console, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        pools = connection.cursor(row_factory=dict_row).execute("SHOW POOLS").fetchall()
    return sum(int(each["cl_waiting"]) for each in pools)
