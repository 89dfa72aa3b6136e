"""The code snippets of the account page's Connect section, run as a customer would after setting the key."""

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from app.web.account.sdk_snippets import SNIPPETS
from tests.live_service import Service

pytestmark = pytest.mark.xdist_group("service")


def snippet(service: Service, name: str) -> str:
    [text] = [text for each, _, _, text in SNIPPETS if each == name]
    return text.format(base=service.base_url)


def run(service: Service, folder: Path, command: list[str], text: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        cwd=folder,
        env={**os.environ, "CINEMETER_API_KEY": service.keys["pro"], "PYTHONWARNINGS": "ignore"},  # noqa: TID251
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_them_are_tried_here() -> None:
    assert [name for name, *_ in SNIPPETS] == ["curl", "openai", "dashscope", "mcp"]


def test_curl_orders_a_film(service: Service, tmp_path: Path) -> None:
    # A plain POSIX shell, as in the smallest container: only curl may be needed.
    video = json.loads(run(service, tmp_path, ["sh"], snippet(service, "curl")))
    assert (video["status"], video["seconds"], video["size"]) == ("queued", "5", "1280x720")


def test_the_openai_sdk_leaves_a_film_in_the_folder(service: Service, tmp_path: Path) -> None:
    run(service, tmp_path, [sys.executable, "-"], snippet(service, "openai"))
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_dashscope_sdk_prints_where_the_film_is(service: Service, tmp_path: Path) -> None:
    address = run(service, tmp_path, [sys.executable, "-"], snippet(service, "dashscope")).strip()
    assert httpx.get(address).content[4:8] == b"ftyp"


def test_an_assistant_finds_the_tools(service: Service) -> None:
    [server] = json.loads(snippet(service, "mcp"))["mcpServers"].values()
    # Assistants put the environment's values in, as a shell would.
    headers = {
        name: string.Template(value).substitute(CINEMETER_API_KEY=service.keys["pro"])
        for name, value in server["headers"].items()
    }
    assert server["type"] == "http"

    async def tools() -> set[str]:
        async with (
            httpx.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(server["url"], http_client=http) as streams,
            ClientSession(streams[0], streams[1]) as session,
        ):
            await session.initialize()
            return {tool.name for tool in (await session.list_tools()).tools}

    assert {"quote", "generate"} <= anyio.run(tools)
