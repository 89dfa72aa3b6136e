"""PgBouncer before a test's PostgreSQL, in transaction mode, with fewer server connections than clients."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from app.cli.ports import free_port
from app.cli.server_binaries import servers_owner

POOL_SIZE = 3
START_SECONDS = 30.0


@contextmanager
def pgbouncer(database_url: str, *, pool_size: int = POOL_SIZE) -> Iterator[str]:
    """Run PgBouncer with so many server connections for the block; yield the database's URL through it."""
    # Debian's program is not on the PATH of every user.
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    assert Path(program).exists(), "PgBouncer is not installed; `make proxies` installs it."
    url, port, owner = make_url(database_url), free_port(), servers_owner()
    folder = Path(tempfile.mkdtemp(prefix="cinemeter-pgbouncer-"))
    config = folder / "pgbouncer.ini"
    server = f"host={url.host} port={url.port} user={url.username} password={url.password}"
    config.write_text(
        f"""
        [databases]
        * = {server}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = {pool_size}
        max_client_conn = 200
        admin_users = {url.username}
        """.replace("\n        ", "\n"),
        encoding="utf-8",
    )
    if owner is not None:
        for path in (folder, config):
            shutil.chown(path, owner.uid, owner.gid)
    process = subprocess.Popen(
        [program, "--quiet", config],
        cwd="/",
        stdin=subprocess.DEVNULL,
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )
    try:
        _wait(process, port)
        yield url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("PgBouncer did not start")
