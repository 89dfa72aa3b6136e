"""An MCP client from the `mcp` package makes a film: price, confirmation, order, receipt."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.contracts.node_service import Payer, new_payer
from tests.live_service import Service, follow

pytestmark = pytest.mark.xdist_group("service")

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@asynccontextmanager
async def opened(service: Service, key: str = "pro") -> AsyncIterator[ClientSession]:
    """A session of an MCP client that carries one of the service's keys, or a key itself."""
    headers = {"Authorization": f"Bearer {service.keys.get(key, key)}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=60) as http,
        streamable_http_client(f"{service.base_url}/mcp", http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        yield session


def test_an_agent_makes_a_film_only_after_its_quote_was_confirmed(service: Service) -> None:
    anyio.run(_story, service)


async def _story(service: Service) -> None:
    async with opened(service) as session:
        tools = {tool.name for tool in (await session.list_tools()).tools}
        assert tools == {"estimate", "quote", "generate", "status", "cancel", "list", "receipt"}
        quote = await call(session, "quote", order=ORDER)
        refused = await session.call_tool("generate", {"quote_id": quote["id"], "confirm_total": "0.00"})
        assert refused.is_error
        assert "confirm_total" in refused.content[0].text  # type: ignore[union-attr]
        video = await call(session, "generate", quote_id=quote["id"], confirm_total=quote["total"])
        again = await call(session, "generate", quote_id=quote["id"], confirm_total=quote["total"])
        assert again["id"] == video["id"]
        while video["status"] in ("queued", "in_progress"):
            video = await call(session, "status", video_id=video["id"])
        assert video["status"] == "completed"
        key = {"Authorization": f"Bearer {service.keys['pro']}"}
        film = httpx.get(video["video_url"], headers=key, follow_redirects=True)
        assert (film.status_code, film.headers["content-type"], film.content[4:8]) == (200, "video/mp4", b"ftyp")
        receipt = await call(session, "receipt", video_id=video["id"])
        assert receipt["total"] == quote["total"]
        assert video["id"] in {each["id"] for each in (await call(session, "list", limit=5))["data"]}


async def call(session: ClientSession, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await session.call_tool(tool, arguments)
    assert not answer.is_error, answer
    result: dict[str, Any] = json.loads(answer.content[0].text)  # type: ignore[union-attr]
    return result


def test_without_a_key_nothing_is_read(service: Service) -> None:
    answer = httpx.post(f"{service.base_url}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "initialize"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_what_a_quote_says_beside_its_price_holds_for_its_film(service: Service) -> None:
    anyio.run(_beside, service)


async def _beside(service: Service) -> None:
    order = {**ORDER, "metadata": {"scene": "12"}, "expires_after": 3600}
    async with opened(service) as session:
        quote = await call(session, "quote", order=order)
        video = await call(session, "generate", quote_id=quote["id"], confirm_total=quote["total"])
        assert video["metadata"] == {"scene": "12"}
        capped = await call(session, "quote", order={**order, "max_price": "0.01"})
        refused = await session.call_tool("generate", {"quote_id": capped["id"], "confirm_total": capped["total"]})
        assert refused.is_error
        assert "price_above_cap" in refused.content[0].text  # type: ignore[union-attr]


def test_another_tenants_quotes_and_films_are_not_found(service: Service) -> None:
    anyio.run(_strangers, service)


async def _strangers(service: Service) -> None:
    async with opened(service, "pro") as owner, opened(service, "creator") as stranger:
        quote = await call(owner, "quote", order=ORDER)
        stolen = await stranger.call_tool("generate", {"quote_id": quote["id"], "confirm_total": quote["total"]})
        assert stolen.is_error
        assert "not_found" in stolen.content[0].text  # type: ignore[union-attr]
        video = await call(owner, "generate", quote_id=quote["id"], confirm_total=quote["total"])
        for tool in ("status", "cancel", "receipt"):
            hidden = await stranger.call_tool(tool, {"video_id": video["id"]})
            assert hidden.is_error
            assert "not_found" in hidden.content[0].text  # type: ignore[union-attr]
        assert video["id"] not in {each["id"] for each in (await call(stranger, "list", limit=100))["data"]}


def test_bad_orders_are_errors_with_our_sentence_and_hold_nothing(service: Service) -> None:
    poor = new_payer(service, "Poor agent")
    anyio.run(_bad_orders, service, poor)
    assert poor.holds_nothing()


async def _bad_orders(service: Service, poor: Payer) -> None:
    async with opened(service, poor.key) as session:
        for changes, sentence in (
            ({"model": "no-such"}, "There is no enabled video model"),
            ({"first_frame": "https://localhost/a.png"}, "URL"),
            ({"prompt": "x" * 5_001}, "at most 5000 characters"),
        ):
            refused = await session.call_tool("quote", {"order": {**ORDER, **changes}})
            assert refused.is_error
            assert sentence in refused.content[0].text  # type: ignore[union-attr]
        quote = await call(session, "quote", order=ORDER)
        refused = await session.call_tool("generate", {"quote_id": quote["id"], "confirm_total": quote["total"]})
        assert refused.is_error
        assert "wallet" in refused.content[0].text  # type: ignore[union-attr]


def test_an_agent_cancels_its_film(service: Service) -> None:
    with service.client("pro") as native:
        video = native.post("/v1/videos", json={**ORDER, "seconds": 60}).raise_for_status().json()
        anyio.run(_cancel, service, video["id"])
        assert follow(native, video["id"])["status"] == "cancelled"


async def _cancel(service: Service, video_id: str) -> None:
    async with opened(service) as session:
        assert (await call(session, "cancel", video_id=video_id))["id"] == video_id
