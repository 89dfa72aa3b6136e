"""The runbook's chapters on a database that is lost, full or slow, with their own commands on real servers."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from app.accounts.accounts import create_account
from app.cli.embedded import EmbeddedServers
from app.cli.ports import free_port
from app.cli.postgres import Postgres
from app.cli.subprocesses import ProcessOwner
from app.db import forget_engines, get_engine, transaction
from app.settings import child_environment
from tests.api_client import World
from tests.deploy.runbook import commands
from tests.repo.sources import ROOT
from tests.workers.worker_processes import wait_until


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Postgres]:
    """A server that archives its WAL as the runbook says; `archive` and `backup` are beside its data."""
    servers = EmbeddedServers(tmp_path / "home")
    server = servers.postgres
    try:
        server.start()
        server.stop()
        for name in ("archive", "backup"):
            folder = server.folder / name
            folder.mkdir()
            if server.owner:
                shutil.chown(folder, server.owner.uid, server.owner.gid)
        with (server.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(with_archive(commands("wal-archive"), server))
            # A copy of the data is started by the runbook's `pg_ctl`, which has no options on its command line.
            file.write(f"\nport = {free_port()}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n")
            file.write("max_connections = 200\n")
        server.start()
        yield server
    finally:
        forget_engines()
        servers.remove()


def with_archive(script: str, server: Postgres) -> str:
    return script.replace("/archive/", f"{server.folder / 'archive'}/")


def shell(script: str, owner: ProcessOwner | None, folder: Path, **facts: str) -> str:
    """Run a block of the runbook as this user; return what it printed."""
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", script],
        env=child_environment() | facts,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def on_server(server: Postgres) -> Callable[..., str]:
    """Return the shell of the database's user."""
    path = f"{server.programs}:{os.defpath}"

    def run(block: str, **facts: str) -> str:
        place = {"BACKUP": str(server.folder / "backup"), "PATH": path, "SERVER": server.url}
        return shell(with_archive(commands(block), server), server.owner, server.folder, **place | facts)

    return run


def check_database(server: Postgres, url: str) -> str:
    """Run the service's own checks, as the user of its roles."""
    path = f"{server.programs}:{ROOT / '.venv' / 'bin'}:{os.defpath}"
    return shell(commands("check-database"), None, ROOT, CINEMETER_DATABASE_URL=url, PATH=path)


def add_account(url: str, name: str) -> str:
    """Add an account; return the database's time after it."""
    with transaction(get_engine(url)) as session:
        create_account(session, name)
    with psycopg.connect(url) as connection:
        return str(connection.execute("SELECT now()").fetchone()[0])  # type: ignore[index]


def names(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {str(name) for (name,) in connection.execute("SELECT name FROM accounts")}


def archive_all(server: Postgres) -> None:
    """Return when everything that was committed is in the archive."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        (last,) = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()  # type: ignore[misc]
    wait_until((server.folder / "archive" / last).exists, "the WAL is archived")


def port_of_copy(data: Path) -> str:
    lines = (data / "postgresql.conf").read_text(encoding="utf-8").splitlines()
    return next(line.split(" = ")[1] for line in reversed(lines) if line.startswith("port = "))


@pytest.mark.deep
def test_a_database_goes_back_to_a_moment(primary: Postgres) -> None:
    run = on_server(primary)
    shell("cinemeter migrate", None, ROOT, CINEMETER_DATABASE_URL=primary.url, PATH=f"{ROOT / '.venv' / 'bin'}")
    add_account(primary.url, "before")
    run("base-backup")
    moment = add_account(primary.url, "between")
    add_account(primary.url, "after")
    archive_all(primary)
    port = port_of_copy(primary.data)
    primary.stop()
    copy = primary.folder / "recovered"
    url = primary.url.replace(f":{primary.port}/", f":{port}/")
    try:
        run("recover", DATA=str(copy), MOMENT=moment, SERVER=url)
        assert names(url) == {"before", "between"}
        assert "Everything agrees." in check_database(primary, url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(commands("new-password").replace("NEW", "another"))
        with pytest.raises(psycopg.OperationalError, match="password"):
            names(url)
        assert names(url.replace(primary.password, "another")) == {"before", "between"}
    finally:
        stop(primary, copy)


@pytest.mark.deep
def test_a_standby_takes_over(primary: Postgres) -> None:
    run = on_server(primary)
    shell("cinemeter migrate", None, ROOT, CINEMETER_DATABASE_URL=primary.url, PATH=f"{ROOT / '.venv' / 'bin'}")
    copy = primary.folder / "standby"
    options = f"--checkpoint=fast --write-recovery-conf --dbname='{primary.url}'"
    user = {"PATH": f"{primary.programs}:{os.defpath}"}
    shell(f"pg_basebackup --pgdata={copy} {options}", primary.owner, primary.folder, **user)
    url = primary.url.replace(f":{primary.port}/", f":{port_of_copy(copy)}/")
    try:
        shell(f"pg_ctl --pgdata={copy} --log={copy}.log --wait start", primary.owner, primary.folder, **user)
        add_account(primary.url, "before")
        wait_until(lambda: names(url) == {"before"}, "the standby follows")
        with pytest.raises(AssertionError, match="division by zero"):
            check_database(primary, url)
        primary.stop()
        run("take-over", DATA=str(copy))
        assert "Everything agrees." in check_database(primary, url)
        add_account(url, "after")
        assert names(url) == {"before", "after"}
    finally:
        stop(primary, copy)


def stop(server: Postgres, data: Path) -> None:
    """End the server of a copied data folder, if it runs."""
    forget_engines()
    path = f"{server.programs}:{os.defpath}"
    script = f"test ! -f {data}/postmaster.pid || pg_ctl --pgdata={data} --mode=immediate --wait stop"
    shell(script, server.owner, server.folder, PATH=path)


@pytest.mark.parametrize(
    "name", ["slots", "archive", "sizes", "old-transactions", "dead-rows", "wanted", "holds", "delivered-since"]
)
def test_the_queries_of_the_runbook_are_answered(world: World, name: str) -> None:
    with transaction() as session:
        rows = session.execute(text(commands(name).replace("MOMENT", "2026-11-30 09:41:00+00"))).all()
    assert {"archive": 1, "sizes": 10, "dead-rows": 10, "wanted": 1}.get(name, 0) == len(rows)


def test_a_hold_of_an_unfinished_job_is_not_on_the_list_of_stuck_ones(world: World) -> None:
    order = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    job = world.post("/v1/videos", order).json()["id"]
    with transaction() as session:
        assert session.execute(text(commands("holds"))).all() == []
        session.execute(text("ALTER TABLE jobs DISABLE TRIGGER USER"))
        session.execute(text("UPDATE jobs SET state = 'failed', finished_at = now() WHERE id = :id"), {"id": job})
        (row,) = session.execute(text(commands("holds"))).all()
        assert (row.account_id, row.job, row.state) == (world.alice_id, job, "failed")
        session.rollback()
