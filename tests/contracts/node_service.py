"""Accounts for the tests of clients, and the run of the clients of Node against a service."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.db import new_id
from tests.live_service import Service

FOLDER = Path(__file__).parent / "node"
NODE_MAJOR_MIN = 20


@dataclass(frozen=True)
class Payer:
    """A key of an account that is used by one test only, so that what is held there is the test's own."""

    key: str
    service: Service

    def holds_nothing(self) -> bool:
        """Return whether the account has made no film and none of its money is held."""
        with self.service.client(self.key) as client:
            wallet = client.get("/v1/wallet").raise_for_status().json()
            return wallet["held"] == "0.00" and client.get("/v1/videos").raise_for_status().json()["data"] == []


def new_payer(service: Service, name: str, *, amount: str | None = None) -> Payer:
    """Return a new account's key; `amount` is what its wallet gets."""
    with service.client("admin") as admin:
        account = admin.post("/v1/admin/accounts", json={"name": name}).raise_for_status().json()["id"]
        if amount is not None:
            top_up = {"amount": amount, "kind": "purchased", "reference": new_id("ref")}
            admin.post(f"/v1/admin/accounts/{account}/top_ups", json=top_up).raise_for_status()
        body = {"scopes": ["videos", "billing", "webhooks"]}
        key = admin.post(f"/v1/admin/accounts/{account}/keys", json=body).raise_for_status().json()
        return Payer(key["secret"], service)


def missing_node() -> str | None:
    """Return why the clients of Node cannot run here, or None."""
    node = shutil.which("node")
    if node is None:
        return f"the clients of Node need Node.js {NODE_MAJOR_MIN} or newer and npm on the PATH"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"v(\d+)", version)
    if match is None or int(match[1]) < NODE_MAJOR_MIN:
        return f"the clients of Node need Node.js {NODE_MAJOR_MIN} or newer, and here is {version.strip()}"
    return (
        None
        if (FOLDER / "node_modules" / ".installed").is_file()
        else "the clients of Node are not installed: run `make clients`"
    )


def run_clients(service: Service, keys: dict[str, str]) -> dict[str, Any]:
    """Return what each client of Node has seen of a service, by one process of Node."""
    inputs = json.dumps({"base_url": service.base_url, "keys": keys})
    done = subprocess.run(
        ["node", "clients.mjs"], cwd=FOLDER, input=inputs, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
