"""`cinemeter doctor`: every part is checked, nothing is changed, and every problem comes with its fix."""

import socket
from pathlib import Path

import pytest

from app.cli.doctor import diagnose
from app.cli.doctor_database import check_database
from app.cli.health_check import HealthCheck
from app.cli.home import claim_home
from app.cli.migrate import set_time_outs
from app.cli.ports import free_port
from app.db import forget_engines, transaction
from app.settings import get_settings
from tests.factories import make_worker


def check(home: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, HealthCheck]:
    """Return the results of the doctor with these settings, by part."""
    for name, value in {"HOME": str(home), **environment}.items():
        monkeypatch.setenv(f"CINEMETER_{name}", value)
    get_settings.cache_clear()
    try:
        return {each.part: each for each in diagnose(home)}
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


def test_a_machine_with_everything_is_well_and_stays_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checks = check(tmp_path / "home", monkeypatch, PORT=str(free_port()))
    for part in ("Python", "home", "port", "PostgreSQL", "Redis", "storage", "ffmpeg", "torch", "model demo"):
        assert checks[part].ok, checks[part]
    assert list(tmp_path.iterdir()) == []


def test_unreachable_servers_come_with_what_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    port = free_port()
    checks = check(
        tmp_path,
        monkeypatch,
        DATABASE_URL=f"postgresql://nobody:secret@127.0.0.1:{port}/none",
        REDIS_URL=f"redis://127.0.0.1:{port}/0",
        STORAGE_URL="ftp://somewhere",
        FFMPEG=str(tmp_path / "no-ffmpeg"),
    )
    assert {part: checks[part].ok for part in ("PostgreSQL", "Redis", "storage", "ffmpeg")} == {
        "PostgreSQL": False,
        "Redis": False,
        "storage": False,
        "ffmpeg": False,
    }
    assert "CINEMETER_DATABASE_URL" in checks["PostgreSQL"].fix
    assert "CINEMETER_REDIS_URL" in checks["Redis"].fix
    assert "secret" not in checks["PostgreSQL"].result


def test_external_servers_are_asked_for_their_versions(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checks = check(tmp_path, monkeypatch, DATABASE_URL=database_url, REDIS_URL=redis_url)
    assert (checks["PostgreSQL"].ok, checks["Redis"].ok) == (True, True)
    assert "external" in checks["PostgreSQL"].result


def test_a_port_in_use_is_a_remark_unless_it_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert check(tmp_path, monkeypatch, PORT=port)["port"].ok is None
        with claim_home(tmp_path):
            assert check(tmp_path, monkeypatch, PORT=port)["port"].ok is True


def of_database() -> dict[str, HealthCheck]:
    return {each.part: each for each in check_database()}


def test_a_database_that_lets_everybody_stand_still_is_a_fault(database_url: str):
    missing = of_database()["database time-outs"]
    assert missing.ok is False
    assert "idle_in_transaction_session_timeout is 0, not 15s" in missing.result
    assert "cinemeter migrate" in missing.fix
    with transaction() as session:
        set_time_outs(session.connection())
    forget_engines()
    assert of_database()["database time-outs"].ok, of_database()["database time-outs"]
    assert of_database()["database encoding"].ok


def test_more_workers_than_the_database_has_connections_for_are_a_remark(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CINEMETER_API_PROCESSES", "2")
    get_settings.cache_clear()
    assert of_database()["connections"].ok
    with transaction() as session:
        for number in range(100):
            make_worker(session, f"worker-{number}")
        make_worker(session, "gone", state="gone")
    budget = of_database()["connections"]
    assert budget.ok is None
    assert budget.result.startswith("100 workers × 6 + 2 API × 20 + 10 = 650 of ")
    assert "max_connections of PostgreSQL to 670" in budget.fix
    assert "PgBouncer" in budget.fix
