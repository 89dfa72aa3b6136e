"""The entry point of a stand-in: a server of Debian's (or rclone) that takes the options and folders of the image whose
place it has. It runs in the container, on Python's standard library alone."""

import http.server
import json
import os
import pwd
import subprocess
import sys
import threading
from pathlib import Path

DATA = Path("/var/lib/postgresql/data")
SOCKETS = Path("/var/run/postgresql")


def become(name: str) -> None:
    """Go on as this user, as the images do that are started as root."""
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = "/tmp"  # noqa: TID251 — of the container


def postgres(command: list[str]) -> None:
    """Make the cluster at the first start, with the user and the database of the environment, then run the server."""
    user = pwd.getpwnam("postgres")
    for folder in (DATA, SOCKETS):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user.pw_uid, user.pw_gid)
    DATA.chmod(0o700)
    become("postgres")
    facts = os.environ  # noqa: TID251 — what compose.yaml sets
    if not (DATA / "PG_VERSION").exists():
        password = Path("/tmp/password")
        password.write_text(facts["POSTGRES_PASSWORD"], encoding="utf-8")
        options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256"]
        subprocess.run(
            ["initdb", "-D", DATA, "-U", facts["POSTGRES_USER"], f"--pwfile={password}", *options], check=True
        )
        password.unlink()
        with (DATA / "pg_hba.conf").open("a", encoding="utf-8") as file:
            file.write("host all all all scram-sha-256\n")
        # Without a network, so that nobody meets a database that is not there yet.
        control = ["pg_ctl", "-D", DATA, "-w", "-o", "-c listen_addresses=''"]
        subprocess.run([*control, "start"], check=True)
        subprocess.run(["createdb", "-U", facts["POSTGRES_USER"], facts["POSTGRES_DB"]], check=True)
        subprocess.run([*control, "-m", "fast", "stop"], check=True)
    os.execvp("postgres", ["postgres", "-D", str(DATA), "-c", "listen_addresses=*", *command[1:]])


class Healthy(http.server.BaseHTTPRequestHandler):
    """The page by which compose.yaml asks whether the store works."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def seaweedfs() -> None:
    """Serve S3 by rclone on the port and with the keys of SeaweedFS."""
    identity = json.loads(Path("/etc/seaweedfs/s3.json").read_text(encoding="utf-8"))["identities"][0]
    keys = identity["credentials"][0]
    page = http.server.ThreadingHTTPServer(("0.0.0.0", 9333), Healthy)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    Path("/data").mkdir(exist_ok=True)
    command = ["rclone", "serve", "s3", "/data", "--addr", "0.0.0.0:8333", "--config", ""]
    sys.exit(subprocess.call([*command, "--auth-key", f"{keys['accessKey']},{keys['secretKey']}"]))


def main(role: str, command: list[str]) -> None:
    """Become the server of this role."""
    if role == "postgres":
        postgres(command)
    elif role == "redis":
        become("redis")
        os.execvp(command[0], command)
    elif role == "seaweedfs":
        seaweedfs()
    elif role == "haproxy":
        os.execvp("haproxy", ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"])
    elif role == "prometheus":
        options = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
        os.execvp("prometheus", ["prometheus", *options])
    else:
        sys.exit(f"no stand-in for {role}")


if __name__ == "__main__":
    main(os.environ["STAND_IN"], sys.argv[1:])  # noqa: TID251 — what the image sets
