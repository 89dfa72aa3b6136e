"""LiteLLM's SDK and proxy as processes, with packages of their own before those of the tests."""

import json
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from app.settings import child_environment
from tests.contracts.storage_servers import free_port
from tests.live_service import Service

FOLDER = Path(__file__).parent / "litellm"
PACKAGES = Path(sys.prefix) / "litellm"
# Importing the proxy takes half a minute of a processor the first time.
START_SECONDS = 240
# It records a call after its answer.
RECORD_SECONDS = 120
MASTER_KEY = f"sk-{secrets.token_hex(24)}"
_PROXY = "from litellm_cli.main import proxy_server; proxy_server()"
_tick = threading.Event()


def missing_litellm() -> str | None:
    """Return why LiteLLM cannot run here, or None."""
    is_there = (PACKAGES / ".installed").is_file()
    return None if is_there else "LiteLLM is not installed: run `make clients`"


def _environment() -> dict[str, str]:
    environment = child_environment()
    # It asks nobody for prices, and sends no statistics.
    return {
        **environment,
        "PYTHONPATH": str(PACKAGES),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def run_sdk(service: Service, keys: dict[str, str]) -> dict[str, Any]:
    """Return what LiteLLM's SDK has seen of a service, by provider."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "sdk.py")],
        input=json.dumps({"base_url": service.base_url, "keys": keys}),
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # It may print notes of its own before.
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs in front of a service."""

    base_url: str
    folder: Path

    def costs(self, kind: str, count: int) -> list[float]:
        """Return the costs of the first `count` calls of a type, once the proxy has recorded as many.

        Raises AssertionError with its log where it does not.
        """
        for _ in range(RECORD_SECONDS * 10):
            path = self.folder / "costs.jsonl"
            lines = path.read_text().splitlines() if path.exists() else []
            costs = [each["cost"] for each in map(json.loads, lines) if kind in each["type"]]
            if len(costs) >= count:
                return costs[:count]
            _tick.wait(0.1)
        raise AssertionError((self.folder / "proxy.log").read_text())


@contextmanager
def running_proxy(service: Service, folder: Path) -> Iterator[Proxy]:
    """Run LiteLLM's proxy during the block, with two deployments of one model and a pass-through to the service."""
    shutil.copy(FOLDER / "recorder.py", folder)
    base = f"{service.base_url}/v1"
    deployments = [("openai", service.keys["pro"]), ("hosted_vllm", service.keys["creator"])]
    config = {
        "model_list": [
            {
                "model_name": "film",
                "litellm_params": {"model": f"{provider}/synthetic", "api_base": base, "api_key": key},
            }
            for provider, key in deployments
        ],
        "litellm_settings": {"callbacks": ["recorder.recorder"], "num_retries": 0},
        "general_settings": {
            "master_key": MASTER_KEY,
            "pass_through_endpoints": [
                {
                    "path": "/cinemeter",
                    "target": base,
                    "include_subpath": True,
                    "auth": True,
                    "headers": {"Authorization": f"Bearer {service.keys['enterprise']}"},
                }
            ],
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    with (folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROXY, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            proxy = Proxy(f"http://127.0.0.1:{port}", folder)
            _wait_for(process, proxy)
            yield proxy
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(process: subprocess.Popen[bytes], proxy: Proxy) -> None:
    """Wait until a proxy answers. Raises AssertionError with its log when it ends before, or does not answer."""
    for _ in range(START_SECONDS * 4):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{proxy.base_url}/health/liveliness", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            _tick.wait(0.25)
    raise AssertionError((proxy.folder / "proxy.log").read_text())
