"""Checks of an external PostgreSQL for `cinemeter doctor`: version, encoding, time-outs, and room for connections."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from app.cli.health_check import HealthCheck
from app.db import TIME_OUTS, get_engine
from app.process_role import connections_max
from app.settings import get_settings

_POSTGRES_MIN = 15
# Connections that are left for scheduler, courier, migrations, metrics and an operator's own tools.
_OTHERS = 10


def check_database() -> list[HealthCheck]:
    """Check the configured database. Nothing is written."""
    fix = "Check CINEMETER_DATABASE_URL, that the server runs, and that it accepts connections from this machine."
    try:
        with get_engine().connect() as connection:
            checks = [_version(connection), _encoding(connection), _time_outs(connection)]
            return [*checks, _connections(connection)]
    except (SQLAlchemyError, RuntimeError) as error:
        return [HealthCheck("PostgreSQL", False, str(error).splitlines()[0], fix)]


def _version(connection: Connection) -> HealthCheck:
    version = str(connection.scalar(text("SHOW server_version")))
    ok = int(version.split(".")[0]) >= _POSTGRES_MIN
    return HealthCheck("PostgreSQL", ok, f"{version}, external", f"Use PostgreSQL {_POSTGRES_MIN} or newer.")


def _encoding(connection: Connection) -> HealthCheck:
    encoding = str(connection.scalar(text("SHOW server_encoding")))
    fix = "Create the database with ENCODING 'UTF8': other encodings cannot hold every prompt."
    return HealthCheck("database encoding", encoding == "UTF8", encoding, fix)


def _time_outs(connection: Connection) -> HealthCheck:
    """Check that the database ends what stands still; the values are those that `cinemeter migrate` writes."""
    differences = []
    for name, value in TIME_OUTS.items():
        current = str(connection.scalar(text("SELECT current_setting(:name)"), {"name": name}))
        if current != value:
            differences.append(f"{name} is {current}, not {value}")
    fix = (
        "One frozen process can stop all others. Run `cinemeter migrate` as the role that the service uses, or "
        "`ALTER ROLE … IN DATABASE … SET …` for each, then restart the roles."
    )
    return HealthCheck("database time-outs", not differences, "; ".join(differences) or "set", fix)


def _connections(connection: Connection) -> HealthCheck:
    """Compare what all processes may open with what the server accepts.

    Workers are counted in their registry. API processes register nowhere: they are counted by their connections and
    addresses, so behind a pooler the count is the least that is possible.
    """
    allowed = _number(connection, "SELECT current_setting('max_connections')::int") - _number(
        connection, "SELECT current_setting('superuser_reserved_connections')::int"
    )
    workers = 0
    if connection.scalar(text("SELECT to_regclass('workers')")) is not None:
        workers = _number(connection, "SELECT count(*) FROM workers WHERE state <> 'gone'")
    seen = connection.execute(
        text(
            """
            SELECT count(*) AS open, count(DISTINCT client_addr) AS hosts
            FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cinemeter-api'
            """
        )
    ).one()
    each_host = get_settings().api_process_count()
    api = connections_max("api", processes=each_host)
    processes = max(max(1, seen.hosts) * each_host, -(-seen.open // api))
    needed = workers * connections_max("worker") + processes * api + _OTHERS
    sums = f"{workers} workers × {connections_max('worker')} + {processes} API × {api} + {_OTHERS} = {needed}"
    fix = (
        f"Set max_connections of PostgreSQL to {needed + 20} or more and restart it, "
        "or put PgBouncer before it (runbook, Connections and PgBouncer)."
    )
    return HealthCheck("connections", True if needed <= allowed else None, f"{sums} of {allowed}", fix)


def _number(connection: Connection, query: str) -> int:
    return int(connection.scalar(text(query)) or 0)
