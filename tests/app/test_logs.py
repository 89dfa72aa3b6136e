"""Log lines carry their ids, in both formats and in every thread of a request."""

import asyncio
import json
import logging
import re

import pytest

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.db import transaction
from app.jobs.tables import Job
from app.logs import JsonLines, TextLines, add_log_ids, bind_log_ids, current_ids, set_up_logs
from app.settings import get_settings
from app.trace import trace_id_of
from tests.api_client import World
from tests.app.log_lines import lines_of
from tests.app.webhooks.couriers import courier_thread
from tests.workers.worker_processes import wait_until


def record(message: str = "a fact") -> logging.LogRecord:
    return logging.LogRecord("cinemeter.test", logging.INFO, __file__, 1, message, None, None)


def test_a_json_line_carries_the_ids_of_its_block() -> None:
    form = JsonLines("worker")
    with bind_log_ids(job_id="video_1"), bind_log_ids(take_id="take_1"):
        line = json.loads(form.format(record()))
    assert (line["role"], line["job_id"], line["take_id"]) == ("worker", "video_1", "take_1")
    assert "job_id" not in json.loads(form.format(record()))


def test_a_text_log_line_ends_with_the_ids() -> None:
    with bind_log_ids(request_id="req_1"):
        assert TextLines("api").format(record()).endswith("cinemeter.test: a fact [request_id=req_1]")
    assert TextLines("api").format(record()).endswith("a fact")


def test_blocks_end_and_do_not_mix_between_tasks() -> None:
    async def task(name: str) -> dict[str, str]:
        with bind_log_ids(job_id=name):
            await asyncio.sleep(0)
            return current_ids()

    async def both() -> list[dict[str, str]]:
        return list(await asyncio.gather(task("one"), task("two")))

    assert asyncio.run(both()) == [{"job_id": "one"}, {"job_id": "two"}]
    assert current_ids() == {}


def test_what_a_thread_finds_out_is_on_the_requests_own_line() -> None:
    async def request() -> dict[str, str]:
        with bind_log_ids(request_id="req_1"):
            await asyncio.to_thread(add_log_ids, job_id="video_1")
            return current_ids()

    assert asyncio.run(request()) == {"request_id": "req_1", "job_id": "video_1"}
    add_log_ids(job_id="video_1")
    assert current_ids() == {}


def test_the_settings_choose_form_and_level(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setenv("CINEMETER_LOG_FORMAT", "json")
    monkeypatch.setenv("CINEMETER_LOG_LEVEL", "warning")
    get_settings.cache_clear()
    try:
        set_up_logs("courier")
        assert isinstance(root.handlers[0].formatter, JsonLines)
        assert root.level == logging.WARNING
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        get_settings.cache_clear()


ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def test_the_line_of_an_order_names_its_request_its_account_and_its_job(world: World) -> None:
    with lines_of("cinemeter.requests") as lines:
        answer = world.post("/v1/videos", ORDER, headers={"X-Request-Id": "my-own-id"})
    assert (lines[-1]["request_id"], lines[-1]["job_id"]) == ("my-own-id", answer.json()["id"])
    assert lines[-1]["account_id"] == world.alice_id


def test_a_caller_s_trace_is_on_the_line_and_a_malformed_one_is_not(world: World) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with lines_of("cinemeter.requests") as lines:
        world.app.get("/v1/videos", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        world.app.get("/v1/videos", headers={"traceparent": "00-someone@example.org"})
        world.app.get("/v1/videos")
    assert lines[0]["trace_id"] == trace
    made = {line["trace_id"] for line in lines[1:]}
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)


def test_every_way_in_names_its_account_and_a_stranger_has_none(world: World) -> None:
    key = {"Authorization": f"Bearer {world.alice}"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}
    with lines_of("cinemeter.requests") as lines:
        job = world.post("/v1/videos", ORDER).json()["id"]
        world.app.get("/v1/videos", headers=key)
        world.app.get(f"/v1/videos/{job}", headers=key)  # Answered without the route.
        world.app.post("/mcp", json=call, headers=key | accept)
        world.app.post("/v1/videos", content=b"{", headers=key)
    assert {line["account_id"] for line in lines} == {world.alice_id}, [line["message"] for line in lines]
    with lines_of("cinemeter.requests") as lines:
        world.app.get("/v1/videos")
        world.app.get("/v1/videos", headers={"Authorization": f"Bearer {world.alice[:-1]}"})
        world.app.get("/healthz")
    assert not any("account_id" in line for line in lines)


def test_the_line_of_a_request_above_its_limit_names_the_account(world: World) -> None:
    with transaction() as session:
        # Without a membership the limits are the smallest.
        account_id = create_account(session, "Carol").id
        key = issue_key(session, account_id, scopes=("videos",))[1]
    first = world.get("/v1/videos", key=key)
    allowed = int(first.headers["ratelimit-policy"].split('"requests";q=')[1].split(";")[0])
    with lines_of("cinemeter.requests") as lines:
        refused = next(answer for _ in range(2 * allowed) if (answer := world.get("/v1/videos", key=key)).is_error)
    assert (refused.status_code, lines[-1]["account_id"]) == (429, account_id)


def test_the_lines_of_takes_and_deliveries_name_the_request_that_made_their_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {**ORDER, "callback_url": "https://hooks.example.com/done"}
    job = world.post("/v1/videos", order, headers={"X-Request-Id": "my-own-id"}).json()
    with lines_of("workers.worker_loop") as lines:
        world.work()
    assert [line["message"] for line in lines] == ["A take of a segment begins", "A take of a finish begins"]
    with transaction() as session:
        trace = trace_id_of(session.get_one(Job, job["id"]).traceparent)
    assert trace
    for line in lines:
        assert (line["request_id"], line["job_id"]) == ("my-own-id", job["id"])
        assert (line["account_id"], line["trace_id"]) == (world.alice_id, trace)
        assert line["worker_id"]
    assert len({line["take_id"] for line in lines}) == 2
    # Under another secret the delivery cannot be signed, and the courier says so.
    monkeypatch.setenv("CINEMETER_SECRET", "another secret than the one that it was made under")
    get_settings.cache_clear()
    with lines_of("cinemeter.courier") as lines, courier_thread():
        wait_until(lambda: any("cannot be signed" in line["message"] for line in lines), "the courier tries")
    line_of_error = next(line for line in lines if "cannot be signed" in line["message"])
    assert (line_of_error["request_id"], line_of_error["job_id"]) == ("my-own-id", job["id"])
    assert line_of_error["delivery_id"]
    assert (line_of_error["account_id"], line_of_error["trace_id"]) == (world.alice_id, trace)
