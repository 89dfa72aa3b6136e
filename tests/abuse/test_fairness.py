"""One customer's burst: its own requests wait and are refused; everybody else's are answered."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from starlette.requests import Request

from app.accounts.keys import issue_key
from app.api import health
from app.cli.asgi import create_site
from app.db import transaction
from app.event_stream import STREAMS_EACH_MAX, stream_slot
from app.request_client import client_of
from app.request_gate import WORK_LIMITS
from app.request_limits import WorkKind
from app.web import signin
from tests.api_client import SCOPES, World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
EACH = WORK_LIMITS[WorkKind.ORDER].each


@contextmanager
def held_orders(engine: Engine, account_id: str) -> Iterator[None]:
    """Keep every order of an account waiting in the database during the block."""
    with engine.begin() as connection:
        lock = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
        connection.execute(lock, {"name": f"submit:{account_id}"})
        yield


def waiting_orders(engine: Engine) -> int:
    """Return how many orders wait for the lock of their account."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
    with engine.connect() as connection:
        return connection.scalar(text(query + "(SELECT oid FROM pg_database WHERE datname = current_database())")) or 0


def test_a_burst_of_orders_under_many_keys_holds_no_more_than_its_share(world: World, engine: Engine) -> None:
    with transaction(engine) as session:
        keys = [issue_key(session, world.alice_id, scopes=SCOPES)[1] for _ in range(4)]
    for key in keys:
        assert world.get("/v1/models", key=key).status_code == 200
    assert world.get("/v1/models", key=world.bob).status_code == 200
    with ThreadPoolExecutor(20) as pool:
        with held_orders(engine, world.alice_id):
            burst = [pool.submit(world.post, "/v1/videos", ORDER, keys[number % 4]) for number in range(16)]
            while sum(each.done() for each in burst) < 16 - EACH:
                # The others wait for two seconds; meanwhile both customers are answered.
                assert world.get("/v1/videos", key=world.bob).status_code == 200
                assert world.post("/v1/videos/estimates", ORDER, key=world.bob).status_code == 200
                assert world.get("/v1/videos").status_code == 200
                assert waiting_orders(engine) <= EACH
            refused = [each.result() for each in burst if each.done()]
        answers = [each.result() for each in burst]
    assert Counter(answer.status_code for answer in answers) == {200: EACH, 429: 16 - EACH}
    for answer in refused:
        assert (answer.json()["code"], int(answer.headers["retry-after"])) == ("rate_limited", 2)
        assert "ratelimit" not in answer.headers, "it was not begun, so it counts against no limit"


def test_pages_and_tools_wait_at_the_same_gate(world: World, engine: Engine) -> None:
    """An assistant's orders count for the account that its other keys count for."""
    quote = world.post("/v1/videos/quotes", ORDER).json()
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "generate", "arguments": {"quote_id": quote["id"], "confirm_total": quote["total"]}},
    }
    headers = {"Accept": "application/json, text/event-stream"}
    with ThreadPoolExecutor(EACH) as pool, held_orders(engine, world.alice_id):
        burst = [pool.submit(world.post, "/v1/videos", ORDER) for _ in range(EACH)]
        while waiting_orders(engine) < EACH:
            threading.Event().wait(0.01)
        answer = world.post("/mcp", call, headers=headers).json()
    assert answer["result"]["isError"], answer
    assert "rate_limited" in answer["result"]["content"][0]["text"]
    assert [each.result().status_code for each in burst] == [200] * EACH


def test_an_account_has_a_bounded_number_of_open_streams(world: World) -> None:
    video_id = world.post("/v1/videos", ORDER).json()["id"]
    with ExitStack() as stack:
        for _ in range(STREAMS_EACH_MAX):
            stack.enter_context(stream_slot(world.alice_id))
        refused = world.get(f"/v1/videos/{video_id}/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 0
    world.work()
    assert world.get(f"/v1/videos/{video_id}/events").status_code == 200


@pytest.mark.parametrize("credentials", [{}, {"Authorization": "Bearer cm_live_nobody"}, {"Cookie": "session=forged"}])
def test_made_up_credentials_are_counted_by_their_address(world: World, credentials: dict[str, str]) -> None:
    fields = [(name.lower().encode(), value.encode()) for name, value in credentials.items()]
    request = Request({"type": "http", "headers": fields, "client": ("192.0.2.7", 1), "state": {}})
    client = client_of(request)()
    assert (client.name, client.is_known) == ("192.0.2.7", False)


def test_a_sign_in_that_waits_for_its_turn_leaves_its_place_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More strangers wait at the sign-in than there are places for strangers; another stranger is answered."""
    begun: list[float] = []
    go_on = threading.Event()

    async def pause(seconds: float) -> None:
        begun.append(seconds)
        await asyncio.to_thread(go_on.wait, 60)

    monkeypatch.setattr(signin, "admit_try", lambda *_: 1.0)
    monkeypatch.setattr(signin, "sleep", pause)
    with TestClient(create_site()) as site, ThreadPoolExecutor(5) as pool:
        headers = {"sec-fetch-site": "same-origin"}
        waiting = [pool.submit(site.post, "/sign-in", data={"email": "a@b.c"}, headers=headers) for _ in range(5)]
        while len(begun) < 5:
            threading.Event().wait(0.01)
        assert site.get("/prices").status_code == 200
        go_on.set()
        assert {each.result().status_code for each in waiting} == {401}


def test_readiness_is_checked_once_for_all_who_ask(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd at /readyz occupies one thread, however slow the check is."""
    begun, go_on = [], threading.Event()

    def check() -> None:
        begun.append(1)
        go_on.wait(60)

    monkeypatch.setattr(health, "_check_storage", check)
    with ThreadPoolExecutor(20) as pool:
        crowd = [pool.submit(world.app.get, "/readyz") for _ in range(20)]
        while not begun:
            threading.Event().wait(0.01)
        assert world.get("/v1/models").status_code == 200
        go_on.set()
        assert {each.result().status_code for each in crowd} == {200}
    assert len(begun) < 20
