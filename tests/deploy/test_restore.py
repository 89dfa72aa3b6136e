"""The restore drill, with the runbook's own commands on a real PostgreSQL: dump, wipe, restore, audit, download."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli.embedded import Servers
from app.cli.main import app as cli
from app.cli.server_binaries import postgres_programs
from app.db import get_engine, transaction
from app.reports.audit import audit_books
from app.settings import child_environment, get_settings
from app.storage import get_storage
from tests.api_client import World
from tests.contracts.storage_servers import rclone
from tests.deploy.runbook import commands
from tests.repo.sources import ROOT

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@pytest.fixture
def shell(servers: Servers, database_url: str, redis_url: str, tmp_path: Path) -> Callable[..., str]:
    backup = tmp_path / "backup"
    backup.mkdir()
    environment = {
        **child_environment(database_url=database_url, redis_url=redis_url),
        "BACKUP": str(backup),
        "DATABASE": database_url.rsplit("/", 1)[1],
        "MAINTENANCE_URL": servers.database_url,
    }
    environment["PATH"] = f"{postgres_programs()}:{ROOT / '.venv' / 'bin'}:{environment['PATH']}"

    def run(script: str, **facts: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script],
            env=environment | facts,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
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
    assert "is identical" in shell(f"cinemeter replay {made['id']}")
    # What was unfinished goes on where the dump left it, and the books still agree.
    assert world.get(f"/v1/videos/{unfinished['id']}").json()["status"] == "queued"
    world.work()
    assert world.get(f"/v1/videos/{unfinished['id']}").json()["status"] == "completed"
    again = world.post("/v1/videos", ORDER)
    assert again.status_code == 200, "numbers and identities go on counting"
    with transaction() as session:
        assert audit_books(session) == []


# What `dc` is where there are no containers: the database's own programs and our commands, on this machine.
DC = """
dc() {
    case "$1 $2 $3" in
        "exec -T postgres") shift 3; "$@" ;;
        "run --rm migrate") shift 3; cinemeter "$@" ;;
        *) echo "dc $*?" >&2; return 1 ;;
    esac
}
"""


@pytest.mark.deep
def test_the_same_with_the_commands_for_compose_and_a_bucket(
    world: World, shell: Callable[..., str], tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name = urlsplit(database_url), database_url.rsplit("/", 1)[1]
    with rclone(tmp_path / "store") as server:
        monkeypatch.setenv("CINEMETER_STORAGE_URL", f"s3://films/?endpoint={server.endpoint}")
        monkeypatch.setenv("CINEMETER_S3_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("CINEMETER_S3_SECRET_KEY", server.secret_key)
        get_settings.cache_clear()
        assert place.username == "cinemeter", "as in compose"
        made = world.post("/v1/videos", ORDER).json()
        world.work()
        facts = {
            "PGHOST": place.hostname,
            "PGPORT": str(place.port),
            "PGPASSWORD": place.password,
            "STORAGE": server.endpoint,
            "CINEMETER_S3_ACCESS_KEY": server.access_key,
            "CINEMETER_S3_SECRET_KEY": server.secret_key,
            "CINEMETER_STORAGE_URL": get_settings().storage_url,
        }

        def run(block: str) -> str:
            # The test's database has a name of its own; everything else is as the runbook has it.
            script = re.sub(r"(?<=[ =])cinemeter(?=\n| [<>])", name, commands(block))
            assert block.endswith("storage") or script.count(name) > 0
            return shell(DC + commands("storage") + script, **facts)

        film = _download(world, made["id"])
        run("backup-compose")
        run("backup-storage")
        with transaction() as session:
            session.execute(text("DROP SCHEMA public CASCADE"))
        for stat in list(get_storage().list("")):
            get_storage().delete(stat.key)
        get_engine().dispose()
        assert "Everything agrees." in run("restore-compose")
        run("restore-storage")
        assert _download(world, made["id"]) == film
        # Another store has the films of this one.
        with rclone(tmp_path / "new" / "store") as new:
            facts |= {
                "STORAGE_NEW": new.endpoint,
                "NEW_ACCESS_KEY": new.access_key,
                "NEW_SECRET_KEY": new.secret_key,
            }
            run("move-storage")
            monkeypatch.setenv("CINEMETER_STORAGE_URL", f"s3://films/?endpoint={new.endpoint}")
            get_settings.cache_clear()
            shutil.rmtree(tmp_path / "store" / "films")
            assert _download(world, made["id"]) == film
        get_settings.cache_clear()


def _download(world: World, video_id: str) -> bytes:
    """Play a film as a customer does: the API leads to the bucket, and a plain client fetches it there."""
    answer = world.get(f"/v1/videos/{video_id}/content", follow_redirects=False)
    assert answer.status_code == 302, answer.text
    return httpx.get(answer.headers["location"]).raise_for_status().content


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
    back_in = runner.invoke(cli, ["sign-in-link", "Ada@example.org"])
    assert "/welcome/" in back_in.stdout, back_in.output
    nobody = runner.invoke(cli, ["sign-in-link", "bob@example.org"])
    assert (nobody.exit_code, "bob@example.org" in nobody.output) == (1, True)
    with transaction() as session:
        assert session.execute(text("SELECT count(*) FROM accounts")).scalar_one() == 1
        assert session.execute(text("SELECT count(*) FROM price_books")).scalar_one() == 1
        assert audit_books(session) == []
    get_settings.cache_clear()
