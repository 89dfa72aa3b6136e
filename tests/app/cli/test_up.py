"""`cinemeter up`, and the commands that use the running service."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.cli.ports import free_port
from app.cli.seed import MAIL_HOST, SEEDS
from app.settings import child_environment
from tests.live_service import Service, start, stop

pytestmark = pytest.mark.xdist_group("service")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a separate process, because it changes its settings."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=False,
    )


def test_a_second_up_on_the_same_home_says_where_the_first_one_is(service: Service):
    again = run("up", "--home", service.home)
    assert again.exit_code == 1
    assert f"already running in {service.home} ({service.base_url}, process {service.process.pid})" in again.stderr


def test_the_record_of_the_running_service_is_for_its_user_only(service: Service):
    record = service.home / "up.json"
    assert record.stat().st_mode & 0o077 == 0
    assert json.loads(record.read_text(encoding="utf-8"))["keys"] == service.keys


def test_the_line_for_programs_has_the_links_to_the_pages(service: Service):
    record = json.loads((service.home / "up.json").read_text(encoding="utf-8"))
    assert service.links == record["links"]
    assert set(service.links) == {f"{each.name}@{MAIL_HOST}" for each in SEEDS}


def test_a_quote_asks_the_service_that_is_up_in_the_home(service: Service):
    answer = command("quote", "a red circle moves left on a blue background", "--seconds", 5, "--home", service.home)
    assert answer.returncode == 0, answer.stderr
    assert "2.19" in answer.stdout


def test_an_error_reaches_the_terminal(service: Service):
    answer = command("generate", "a red circle", "--size", "12x12", "--home", service.home)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error The size 12x12 is not sold")


def test_a_test_key_brings_a_film_into_the_folder(service: Service, tmp_path: Path):
    account = command("keys", "list", "--home", service.home).stdout.partition("\t")[0]
    key = command("keys", "issue", account, "--scope", "videos", "--test", "--home", service.home).stdout.strip()
    target = tmp_path / "a film.mp4"
    wish = ("bars", "more bars", "--seconds", 1, "--model", "synthetic", "--out", target)
    answer = command("generate", *wish, "--key", key, "--home", service.home)
    assert answer.returncode == 0, answer.stderr
    assert "test job, free of charge" in answer.stdout
    assert target.read_bytes()[4:8] == b"ftyp"


def test_a_taken_port_is_named(service: Service, tmp_path: Path):
    port = int(service.base_url.rpartition(":")[2])
    answer = command("up", "--home", tmp_path / "home", "--port", port)
    assert answer.returncode == 1
    assert f"Port {port} is in use." in answer.stderr


@pytest.mark.deep
def test_a_killed_tree_leaves_nothing_running_and_the_next_one_has_the_same_keys(tmp_path: Path):
    port = free_port()
    first = start(tmp_path / "home", "--port", str(port))
    family = psutil.Process(first.process.pid).children(recursive=True)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.communicate()
    second = start(tmp_path / "home", "--port", str(port))
    try:
        assert second.keys == first.keys
        assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        audit = command("audit", "--home", second.home)
        assert audit.returncode == 0, audit.stdout
    finally:
        assert stop(second) == 0
