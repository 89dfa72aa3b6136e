"""OpenStack Swift with its S3 API, from PyPI: one proxy, three storage servers, one disk in a temporary folder."""

import contextlib
import getpass
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.contracts.storage_servers import S3Server, free_port, served

ACCOUNT, USER, SECRET = "contract", "tester", "contract-secret-key"

# Swift reads /etc/swift/swift.conf; this names another before any of its modules looks.
_LAUNCH = """
import sys
from swift.common import utils
utils.SWIFT_CONF_FILE = sys.argv[3]
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(sys.argv[1], sys.argv[2]))
"""

_STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
devices = {folder}/disks
mount_check = false
workers = 0
log_statsd_host =
log_level = ERROR

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
workers = 0
log_level = ERROR

[pipeline:main]
pipeline = catch_errors gatekeeper cache bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{name} = {secret} .admin

[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
# As in S3: the last part may be of any size, the others of five mebibytes and more.
check_bucket_owner = false

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:symlink]
use = egg:swift#symlink
"""


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Build the rings, start the four processes, and stop them at the end."""
    (folder / "disks" / "d1").mkdir(parents=True)
    conf = folder / "swift.conf"
    conf.write_text("[swift-hash]\nswift_hash_path_suffix = contract\n[storage-policy:0]\nname = one\ndefault = yes\n")
    ports = {kind: free_port() for kind in ("account", "container", "object", "proxy")}
    _make_rings(folder, ports)
    facts = {"user": getpass.getuser(), "folder": folder, "account": ACCOUNT, "name": USER, "secret": SECRET}
    with contextlib.ExitStack() as stack:
        for kind, port in ports.items():
            text = _PROXY if kind == "proxy" else _STORAGE
            path = folder / f"{kind}.conf"
            path.write_text(text.format(kind=kind, port=port, **facts))
            log = stack.enter_context((folder / f"{kind}.log").open("wb"))
            command = [sys.executable, "-W", "ignore", "-c", _LAUNCH, str(path), f"{kind}-server", str(conf)]
            stack.enter_context(served(command, port, log))
        yield S3Server(ports["proxy"], f"{ACCOUNT}:{USER}", SECRET)


def _make_rings(folder: Path, ports: dict[str, int]) -> None:
    builder = Path(sys.executable).with_name("swift-ring-builder")
    for kind in ("account", "container", "object"):
        ring = f"{kind}.builder"
        for words in (
            ["create", "6", "1", "1"],
            ["add", f"r1z1-127.0.0.1:{ports[kind]}/d1", "1"],
            ["rebalance"],
        ):
            done = subprocess.run([builder, ring, *words], cwd=folder, capture_output=True, text=True, check=False)
            # 1 is a warning: one disk is no redundancy, and that is meant.
            assert done.returncode in (0, 1), done.stdout
