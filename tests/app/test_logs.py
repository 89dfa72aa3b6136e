"""Log lines carry their ids, in both formats and in every thread of a request."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.logs import JsonLines, TextLines, add_log_ids, bind_log_ids, current_ids, set_up_logs
from app.settings import get_settings
from tests.api_client import World
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


@contextmanager
def lines_of(*names: str) -> Iterator[list[dict[str, str]]]:
    """Keep the lines of these loggers as they are written, with the ids of the moment."""
    lines: list[dict[str, str]] = []

    class Keeper(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines("test").format(entry)))

    keeper = Keeper()
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(keeper)
        logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        for logger in loggers:
            logger.removeHandler(keeper)
            logger.setLevel(logging.NOTSET)


ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def test_the_line_of_an_order_names_its_request_and_its_job(world: World) -> None:
    with lines_of("cinemeter.requests") as lines:
        answer = world.post("/v1/videos", ORDER, headers={"X-Request-Id": "my-own-id"})
    assert (lines[-1]["request_id"], lines[-1]["job_id"]) == ("my-own-id", answer.json()["id"])


def test_the_lines_of_takes_and_deliveries_name_the_request_that_made_their_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {**ORDER, "callback_url": "https://hooks.example.com/done"}
    job = world.post("/v1/videos", order, headers={"X-Request-Id": "my-own-id"}).json()
    with lines_of("workers.worker_loop") as lines:
        world.work()
    assert [line["message"] for line in lines] == ["A take of a segment begins", "A take of a finish begins"]
    for line in lines:
        assert (line["request_id"], line["job_id"]) == ("my-own-id", job["id"])
    assert len({line["take_id"] for line in lines}) == 2
    # Under another secret the delivery cannot be signed, and the courier says so.
    monkeypatch.setenv("CINEMETER_SECRET", "another secret than the one that it was made under")
    get_settings.cache_clear()
    with lines_of("cinemeter.courier") as lines, courier_thread():
        wait_until(lambda: any("cannot be signed" in line["message"] for line in lines), "the courier tries")
    line_of_error = next(line for line in lines if "cannot be signed" in line["message"])
    assert (line_of_error["request_id"], line_of_error["job_id"]) == ("my-own-id", job["id"])
    assert line_of_error["delivery_id"]
