"""The restore drill, with the runbook's own commands on a real PostgreSQL: dump, wipe, restore, audit, download."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli.embedded import Servers
from app.cli.main import app as cli
from app.cli.wheels import postgres_programs
from app.db import get_engine, transaction
from app.reports.audit import audit
from app.settings import child_environment, get_settings
from tests.house.sources import ROOT
from tests.world import World

RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def commands(name: str) -> str:
    """The runbook's block of this name, as it is written there."""
    match = re.search(rf"^```sh {name}\n(.*?)^```", RUNBOOK, flags=re.DOTALL | re.MULTILINE)
    assert match, name
    return match[1]


@pytest.fixture
def shell(servers: Servers, database_url: str, redis_url: str, tmp_path: Path) -> Callable[[str], str]:
    backup = tmp_path / "backup"
    backup.mkdir()
    environment = {
        **child_environment(database_url=database_url, redis_url=redis_url),
        "BACKUP": str(backup),
        "DATABASE": database_url.rsplit("/", 1)[1],
        "MAINTENANCE_URL": servers.database_url,
    }
    environment["PATH"] = f"{postgres_programs()}:{ROOT / '.venv' / 'bin'}:{environment['PATH']}"

    def run(script: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_dump_wipe_restore_audit_download(world: World, shell: Callable[[str], str], tmp_path: Path) -> None:
    made = world.post("/v1/videos", ORDER).json()
    waiting = world.post("/v1/videos", ORDER).json()
    world.post(f"/v1/videos/{waiting['id']}/cancel")
    world.work()
    film = world.get(f"/v1/videos/{made['id']}/content").content
    receipt = world.get(f"/v1/videos/{made['id']}/receipt").json()
    unfinished = world.post("/v1/videos", ORDER).json()
    files, copy = get_settings().home / "files", tmp_path / "files-copy"

    shell(commands("backup"))
    shutil.copytree(files, copy)
    assert "TABLE DATA public receipts" in (tmp_path / "backup" / "cinemeter.list").read_text(encoding="utf-8")

    with transaction() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
    shutil.rmtree(files)
    get_engine().dispose()

    told = shell(commands("restore"))
    shutil.copytree(copy, files)
    assert "Everything agrees." in told

    assert world.get(f"/v1/videos/{made['id']}/content").content == film
    assert world.get(f"/v1/videos/{made['id']}/receipt").json() == receipt
    assert "byte for byte" in shell(f"cinemeter replay {made['id']}")
    # What was unfinished goes on where the dump left it, and the books still agree.
    assert world.get(f"/v1/videos/{unfinished['id']}").json()["status"] == "queued"
    world.work()
    assert world.get(f"/v1/videos/{unfinished['id']}").json()["status"] == "completed"
    again = world.post("/v1/videos", ORDER)
    assert again.status_code == 200, "numbers and identities go on counting"
    with transaction() as session:
        assert audit(session) == []


def test_a_service_of_ones_own_begins_with_one_admin_and_no_customer(
    servers: Servers, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_SECRET", "a secret of this test")
    get_settings.cache_clear()
    runner = CliRunner()
    done = runner.invoke(cli, ["init", "--email", "ada@example.org"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().startswith("cm_live_")
    assert "/welcome/" in done.stderr
    again = runner.invoke(cli, ["init", "--email", "ada@example.org"])
    assert again.exit_code == 1, "nobody gets a second first key"
    with transaction() as session:
        assert session.execute(text("SELECT count(*) FROM accounts")).scalar_one() == 1
        assert session.execute(text("SELECT count(*) FROM price_books")).scalar_one() == 1
        assert audit(session) == []
    get_settings.cache_clear()
