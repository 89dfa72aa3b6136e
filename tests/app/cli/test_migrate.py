"""Upgrades of a database in use: readers and heartbeats go on, and of several processes one migrates."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from sqlalchemy import Engine, text

from app.cli.migrate import check_schema, migrations, upgrade
from app.db import get_engine
from app.errors import AppError

JOBS = 30_000
# A film of several shots, as every finished job of a customer has one.
SPEC = """{"service_tier": "standard", "shots": [
    {"frames": 16, "reuse_clips": []}, {"frames": 16, "reuse_clips": ["a"]}
]}"""
# What a row of the first revision needs, by the type of its column.
VALUES = {
    "text": "''",
    "jsonb": "'{}'::jsonb",
    "timestamp with time zone": "now()",
    "boolean": "false",
    "integer": "1",
    "bigint": "1",
    "smallint": "1",
    "numeric": "1",
    "ARRAY": "'{}'",
}


def fill(engine: Engine, table: str, count: int, **values: str) -> None:
    """Add rows to a table of any revision; columns that are not named get a value of their type, or stay NULL."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        columns = connection.execute(
            text(
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = :table"
                " AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'"
            ),
            {"table": table},
        )
        row = {name: VALUES[kind] for name, kind in columns} | values
        names = ", ".join(f'"{name}"' for name in row)
        rows = f"SELECT {', '.join(row.values())} FROM generate_series(1, {count}) AS n"
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) {rows}")


def fill_first_revision(engine: Engine) -> None:
    """Add ended jobs with their units and takes, some that run, and the money that went."""
    fill(engine, "accounts", 1, id="'acct'", kind="'prepaid'", currency="'CNY'", billing_zone="'UTC'")
    ended = {"finished_at": "now()", "film": """'{"frames": 30, "sha256": "0"}'::jsonb""", "spec": f"'{SPEC}'::jsonb"}
    account = {"account_id": "'acct'"}
    job = {"id": "'job' || n", **account, "stage": "'rendering'", "state": "'completed'", **ended}
    fill(engine, "jobs", JOBS, **job)
    running = {"id": "'running' || n", "state": "'in_progress'", "stage": "'rendering'", "finished_at": "NULL"}
    fill(engine, "jobs", 10, **(job | running | {"film": "NULL"}))
    flex = """'{"service_tier": "flex", "shots": []}'::jsonb"""
    queued = running | {"id": "'queued' || n", "state": "'queued'", "stage": "'waiting'", "not_after": "now()"}
    fill(engine, "jobs", 10, **(job | queued | {"film": "NULL", "spec": flex}))
    unit = {"id": "'unit' || n", "job_id": "'job' || n", **account, "kind": "'segment'", "state": "'done'"}
    fill(engine, "units", JOBS, **unit, pool="'demo'", model="'demo'")
    take = {"id": "'take' || n", "unit_id": "'unit' || n", "job_id": "'job' || n", **account, "kind": "'segment'"}
    fill(engine, "takes", JOBS, **take, state="'succeeded'", share_settled="true", ended_at="now()")
    fill(engine, "takes", 10, **(take | {"id": "'now' || n", "unit_id": "'now' || n"}), state="'running'")
    lot = {"id": "'lot' || n", **account, "kind": "'purchased'", "remaining": "0", "transfer_id": "'transfer' || n"}
    fill(engine, "credit_lots", JOBS, **lot)
    draw = {"id": "'draw' || n", "lot_id": "'lot' || n", "transfer_id": "'transfer' || n"}
    fill(engine, "lot_draws", JOBS, **draw)
    transfer = {"id": "'transfer' || n", **account, "kind": "'correction'", "currency": "'CNY'", "reference": "n::text"}
    sides = {"debit": "'wallet:acct'", "credit": "'corrections'", "reason": "'a reason'"}
    fill(engine, "transfers", JOBS, **transfer, **sides)
    slices = {"hold_id": "'hold' || n", "lot_id": "'lot' || n", "used": "1"}
    fill(engine, "hold_slices", JOBS, **slices)
    fill(engine, "wallets", 1, **account, currency="'CNY'")
    fill(engine, "receipts", 1000, job_id="'job' || n", **account, currency="'CNY'")
    fill(engine, "assets", 1000, id="'asset' || n", **account, state="'pending'", has_audio="false")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


class Traffic:
    """Readers and heartbeats, each statement of which fails when it waits a second for a lock."""

    STATEMENTS = (
        "SELECT id FROM jobs WHERE id = 'job7'",
        "UPDATE jobs SET progress = 1 WHERE id = 'running3'",
        "UPDATE takes SET lease_until = now(), step = step + 1 WHERE id = 'now3'",
        "SELECT id FROM takes WHERE id = 'take9'",
        "SELECT state FROM units WHERE id = 'unit5'",
        "UPDATE workers SET seen_at = now() WHERE id = 'worker'",
        "SELECT id FROM lot_draws WHERE lot_id = 'lot5'",
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.rounds = 0
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '1s'")
            while not self._stop.is_set():
                for statement in self.STATEMENTS:
                    try:
                        connection.execute(statement)
                    except psycopg.Error as error:
                        self.errors.append(f"{statement}: {error}")
                self.rounds += 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", ["0001", pytest.param("0011", marks=pytest.mark.deep)])
def test_a_filled_database_is_upgraded_while_readers_and_heartbeats_go_on(empty_database_url: str, first: str) -> None:
    upgrade(empty_database_url, "0001")
    engine = get_engine(empty_database_url)
    fill_first_revision(engine)
    if first != "0001":
        upgrade(empty_database_url, first)
    with Traffic(empty_database_url) as traffic:
        upgrade(empty_database_url)
    assert traffic.rounds > 0
    assert traffic.errors == []
    with engine.connect() as connection:
        films = "SELECT count(*) FROM jobs WHERE (film ->> 'reused_frames')::int = 16"
        assert connection.scalar(text(films)) == JOBS
        assert connection.scalar(text("SELECT count(*) FROM lot_draws WHERE cause = 'correction'")) == JOBS
        assert connection.scalar(text("SELECT count(*) FROM jobs WHERE promote_at IS NOT NULL")) == 10
        assert connection.scalar(text("SELECT count(*) FROM registry_films WHERE frame_hashes = ''")) == JOBS
        # An account counts on from its greatest number.
        assert connection.scalar(text("SELECT live_receipts FROM wallets")) == 1000
        assert connection.scalar(text("SELECT older_until FROM receipt_numbering")) == 1000
        assert connection.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")) == 0
        assert connection.scalar(text("SELECT count(*) FROM pg_constraint WHERE NOT convalidated")) == 0


@pytest.mark.timeout(120)
def test_a_transaction_that_is_open_for_long_stops_the_migration_and_no_reader(empty_database_url: str) -> None:
    """What a migration waits for, others would wait for behind it; so it gives way, and goes on when it can."""
    upgrade(empty_database_url, "0001")
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'jobs'::regclass"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(empty_database_url) as report:
        report.execute("SELECT count(*) FROM jobs")
        upgraded = pool.submit(upgrade, empty_database_url)
        with psycopg.connect(empty_database_url, autocommit=True) as watcher:
            while watcher.execute(waits).fetchone() != (1,):
                assert not upgraded.done()
        with psycopg.connect(empty_database_url, autocommit=True) as reader:
            reader.execute("SET lock_timeout = '1s'")
            for _ in range(3):
                reader.execute("SELECT count(*) FROM jobs")
        assert not upgraded.done()
        report.rollback()
        upgraded.result()


@pytest.mark.timeout(120)
def test_of_three_that_migrate_one_does_and_the_others_wait(empty_database_url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(upgrade, empty_database_url) for _ in range(3)]:
            done.result()
    with get_engine(empty_database_url).connect() as connection:
        versions = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    assert len(versions) == 1


@pytest.mark.timeout(120)
def test_a_pod_waits_for_the_schema_that_another_migrates(empty_database_url: str) -> None:
    with pytest.raises(AppError, match="Run `cinemeter migrate`"):
        check_schema(0, empty_database_url)
    upgrade(empty_database_url, "0001")
    with pytest.raises(AppError, match="Run `cinemeter migrate`"):
        check_schema(0, empty_database_url)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(check_schema, 600, empty_database_url)
        upgrade(empty_database_url)
        wait.result()
    check_schema(0, empty_database_url)
    with pytest.raises(AppError, match="does not answer"):
        check_schema(0, "postgresql://nobody@127.0.0.1:1/nothing")


def test_the_revision_of_reviews_is_taken_back_where_jobs_ended_in_review(empty_database_url: str) -> None:
    upgrade(empty_database_url, "0051")
    engine = get_engine(empty_database_url)
    account = {"account_id": "'acct'"}
    ended = {"stage": "'moderating'", "state": "'failed'", "finished_at": "now()"}
    fill(engine, "jobs", 2, id="'job' || n", **account, **ended, spec=f"'{SPEC}'::jsonb")
    fill(engine, "members", 1, id="'mo'", **account, email="'mo@example.com'", roles="'{operator,moderator}'")
    command.downgrade(migrations(empty_database_url), "0050")
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT DISTINCT stage FROM jobs")).all() == ["waiting"]
        assert connection.scalars(text("SELECT roles FROM members")).all() == [["operator"]]
