"""Try the findings of the abuse review from outside, on a service of any commit.

`python -m tests.abuse.findings FOLDER [--only NAME]`: FOLDER is a checkout, of which a service is started; nothing of
it is imported here. Each line says whether a finding holds (mended) or fails, and what was seen. At 921e689 each one
fails; the tests of this folder name modules that did not exist then.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

BODY_BYTES = 31 * 2**20
HEALTH_SECONDS_MAX = 0.25
READ_SECONDS_MAX = 0.5
REFUSAL_BYTES_MAX = 16_384
# A head must be whole within 10 seconds.
HEAD_SECONDS = 20.0
# A hung process is replaced, and its segment rendered elsewhere, within its lease and 15 seconds.
HUNG_SECONDS = 60.0
# In which the scheduler has met all orders that expire after 1 to 3 seconds.
EXPIRY_SECONDS = 6.0
SHORT = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
FILM = {"model": "synthetic", "shots": [{"prompt": "bars", "seconds": 10}] * 3, "resolution": "480P"}
LONG_RENDER = {"model": "synthetic", "shots": [{"prompt": "bars", "seconds": 10}] * 12, "resolution": "1080P"}


class CheckoutService:
    """The service of some checkout, seen by HTTP and in its log. Its data is removed when it is stopped."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self._log = home.parent / "log"
        quick = {"CINEMETER_LEASE_SECONDS": "10", "CINEMETER_STALL_SECONDS": "20"}
        # Strangers at several addresses are told apart by what a proxy on this machine says.
        quick["CINEMETER_TRUSTED_PROXIES"] = "127.0.0.1"
        # Libraries that only the other checkout needs may be named in PYTHONPATH.
        paths = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])  # noqa: TID251 - of another checkout
        environment = {**os.environ, **quick, "PYTHONPATH": paths}  # noqa: TID251
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "up", "--json", "--home", str(home), "--port", "0"],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
        )
        assert self.process.stdout is not None
        record = json.loads(self.process.stdout.readline())
        self.url, self.keys = record["base_url"], record["keys"]
        self._home = home

    def client(self, key: str | None = "pro") -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def log(self) -> str:
        logs = [self._log, *self._home.rglob("*.log")]
        return "\n".join(path.read_text(errors="replace") for path in logs)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(120)
        # Under root the databases lie outside the home.
        shutil.rmtree(self._home / json.loads((self._home / "servers.json").read_text())["place"])


def worst_health(service: CheckoutService, action: Callable[[], object]) -> float:
    """Return the longest time in seconds that /healthz takes during the action."""
    done, worst = threading.Event(), 0.0
    with ThreadPoolExecutor(1) as pool, service.client(None) as client:
        running = pool.submit(action)
        running.add_done_callback(lambda _: done.set())
        while not done.is_set():
            began = time.monotonic()
            client.get("/healthz")
            worst = max(worst, time.monotonic() - began)
    return worst


def post_body(service: CheckoutService, path: str, content: bytes, kind: str) -> None:
    with service.client(None) as client:
        try:
            client.post(path, content=content, headers={"content-type": kind, "sec-fetch-site": "same-origin"})
        except httpx.TransportError:
            return  # Refused while the body was still being sent.


def f1_ampersands(service: CheckoutService) -> tuple[bool, str]:
    form = "application/x-www-form-urlencoded"
    worst = worst_health(service, lambda: post_body(service, "/theme", b"&" * BODY_BYTES, form))
    return worst <= HEALTH_SECONDS_MAX, f"/healthz waited {worst:.2f} s beside a form of 31 MB"


def f1_json_without_a_key(service: CheckoutService) -> tuple[bool, str]:
    body = b'{"a":[' + b"[]," * (BODY_BYTES // 3 - 10) + b"[]]}"
    worst = worst_health(service, lambda: post_body(service, "/v1/webhook_endpoints", body, "application/json"))
    return worst <= HEALTH_SECONDS_MAX, f"/healthz waited {worst:.2f} s beside JSON of 31 MB without a key"


def f1_refusals(service: CheckoutService) -> tuple[bool, str]:
    body = {f"field_{number}": 1 for number in range(200_000)} | SHORT
    with service.client() as client:
        answer = client.post("/v1/videos", json=body)
    return len(answer.content) <= REFUSAL_BYTES_MAX, f"{answer.status_code} with {len(answer.content)} bytes"


def f2_hung_process(service: CheckoutService) -> tuple[bool, str]:
    with service.client() as client:
        video = client.post("/v1/videos", json=FILM).raise_for_status().json()
        while video["status"] == "queued":
            time.sleep(0.05)
            video = client.get(f"/v1/videos/{video['id']}").json()
        if video["status"] != "in_progress":
            return False, f"not tried: the film was {video['status']} before its process could be stopped"
        tree = psutil.Process(service.process.pid).children(recursive=True)
        hung = [each for each in tree if renders(each)]
        for process in hung:
            process.suspend()
        began = time.monotonic()
        try:
            while time.monotonic() < began + HUNG_SECONDS and video["status"] != "completed":
                time.sleep(1)
                video = client.get(f"/v1/videos/{video['id']}").json()
        finally:
            for process in hung:
                if process.is_running():
                    process.resume()
    state, seconds = video["status"], time.monotonic() - began
    return state == "completed", f"{state} {seconds:.0f} s after a process was stopped"


def renders(process: psutil.Process) -> bool:
    """Whether a process is a child of a worker, in which takes run."""
    parent = process.parent()
    is_child = any("spawn_main" in part for part in process.cmdline())
    return is_child and parent is not None and "workers.main" in parent.cmdline()


def f3_expiring_orders(service: CheckoutService) -> tuple[bool, str]:
    body = {"model": "synthetic", "shots": [{"prompt": "bars", "seconds": 2}] * 12, "resolution": "480P"}

    def order(number: int) -> int:
        with service.client("enterprise") as client:
            return client.post("/v1/videos", json=body | {"expires_after": 1 + number % 3}).status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = [status for _ in range(3) for status in pool.map(order, range(100))]
    time.sleep(EXPIRY_SECONDS)
    deadlocks, refused = service.log().count("DeadlockDetected"), statuses.count(503)
    return deadlocks + refused == 0, f"{deadlocks} deadlocks in the log, {refused} of 300 orders answered 503"


def f4_links_in_the_log(service: CheckoutService) -> tuple[bool, str]:
    with service.client(None) as client:
        client.get("/welcome/member_1.1.secretofalink")
        client.get("/healthz")
    is_logged = "secretofalink" in service.log()
    return not is_logged, "the link is in the log" if is_logged else "ids only"


def f5_guesses(service: CheckoutService) -> tuple[bool, str]:
    form = {"email": "pro@cinemeter.home", "password": "a wrong guess"}
    with service.client(None) as client:

        def guess(address: str) -> int:
            headers = {"x-forwarded-for": address, "sec-fetch-site": "same-origin"}
            return client.post("/sign-in", data=form, headers=headers).status_code

        for _ in range(11):
            guess("192.0.2.1")
        status = guess("198.51.100.7")
    return status != 429, f"{status} at another address after 11 wrong guesses"


def f6_rotated_keys(service: CheckoutService) -> tuple[bool, str]:
    keys, passed = [service.keys["creator"]], 0
    for _ in range(3):
        with service.client(keys[-1]) as client:
            answer = client.post("/v1/keys/self/rotate", json={"overlap_hours": 72})
            if answer.status_code == 200:
                keys.append(answer.json().get("key") or answer.json().get("secret"))
    for key in keys:
        with service.client(key) as client:
            passed += sum(client.get("/v1/wallet").status_code != 429 for _ in range(130))
    return passed <= 135, f"{passed} requests passed at a limit of 120, by {len(keys)} keys"


def f7_bursts(service: CheckoutService) -> tuple[bool, str]:
    shots = [{"prompt": "bars", "seconds": 5}] * 24
    times = [0.0]
    with service.client("enterprise") as client, service.client("pro") as other, ThreadPoolExecutor(100) as pool:
        body = {"model": "synthetic", "shots": shots, "resolution": "480P"}
        orders = [pool.submit(client.post, "/v1/videos", json=body) for _ in range(100)]
        while not all(each.done() for each in orders):
            began = time.monotonic()
            other.get("/v1/videos", params={"limit": 1})
            times.append(time.monotonic() - began)
    return max(times) <= READ_SECONDS_MAX, f"another account's reads took up to {max(times):.2f} s"


def f8_half_a_head(service: CheckoutService) -> tuple[bool, str]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        line.settimeout(HEAD_SECONDS)
        try:
            while line.recv(4096):
                pass
        except TimeoutError:
            return False, f"open after {HEAD_SECONDS:.0f} s"
        except ConnectionResetError:
            return True, "reset"
    return True, "closed"


def f9_fields_of_clients(service: CheckoutService) -> tuple[bool, str]:
    fields: dict[str, Any] = {"user": "me", "duration": 1, "aspect_ratio": "16:9", "generate_audio": False}
    with service.client() as client:
        refused = [
            name
            for name, value in fields.items()
            if client.post("/v1/videos", json={"model": "synthetic", "prompt": "bars", name: value}).status_code != 200
        ]
    return not refused, f"refused: {', '.join(refused) or 'none'}"


def f10_small_ones(service: CheckoutService) -> tuple[bool, str]:
    wrong = []
    with service.client() as client:
        video = client.post("/v1/videos", json=LONG_RENDER).raise_for_status().json()
        if "retry-after" not in client.get(f"/v1/videos/{video['id']}/content").headers:
            wrong.append("409 without Retry-After")
        if list(client.get(f"/v1/videos/{video['id']}").json()["resolved"]) != list(video["resolved"]):
            wrong.append("resolved in two orders")
        client.post(f"/v1/videos/{video['id']}/cancel").raise_for_status()
        while (video := client.get(f"/v1/videos/{video['id']}").json())["status"] in ("queued", "in_progress"):
            time.sleep(0.2)
        if video["status"] == "cancelled" and not video.get("error"):
            wrong.append("cancelled without an error")
        if client.head("/healthz").status_code == 405:
            wrong.append("HEAD is 405")
    return not wrong, "; ".join(wrong) or "as promised"


CHECKS = (
    f3_expiring_orders,
    f1_ampersands,
    f1_json_without_a_key,
    f1_refusals,
    f4_links_in_the_log,
    f5_guesses,
    f8_half_a_head,
    f9_fields_of_clients,
    f10_small_ones,
    f7_bursts,
    f2_hung_process,
    f6_rotated_keys,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--only", choices=[check.__name__ for check in CHECKS])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = CheckoutService(options.checkout.absolute(), Path(folder) / "home")
        try:
            for check in [each for each in CHECKS if options.only in (None, each.__name__)]:
                holds, seen = check(service)
                print(f"{'holds' if holds else 'FAILS'}  {check.__name__}: {seen}", flush=True)
        finally:
            service.stop()


if __name__ == "__main__":
    main()
