"""Films of one waiting call, and what inference servers tell about themselves and their jobs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from app.event_stream import STREAMS_EACH_MAX, stream_slot
from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
_tick = threading.Event()
AT_ONCE = {"Prefer": "wait=0, handling=lenient"}


def test_a_call_waits_for_its_film(world: World) -> None:
    with ThreadPoolExecutor(1) as pool:
        film = pool.submit(world.post, "/v1/videos/sync", ORDER)
        while not film.done() and not world.get("/v1/videos").json()["data"]:
            _tick.wait(0.05)
        world.work()
        answer = film.result(timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text[:500]
    assert answer.content[4:8] == b"ftyp"


def test_a_call_that_waited_long_enough_collects_its_film_with_the_same_key(world: World) -> None:
    key = {"Idempotency-Key": "film-1"}
    early = world.post("/v1/videos/sync", {**ORDER, "colour": "warm"}, headers={**AT_ONCE, **key})
    assert (early.status_code, early.json()["code"], early.json()["state"]) == (504, "deadline_exceeded", "queued")
    assert int(early.headers["retry-after"]) > 0
    world.work()
    film = world.post("/v1/videos/sync", {**ORDER, "colour": "warm"}, headers={**AT_ONCE, **key})
    assert (film.status_code, film.headers["content-type"]) == (200, "video/mp4")
    [video] = world.get("/v1/videos").json()["data"]
    assert video["id"] == early.json()["video"]
    assert [each["field"] for each in video["warnings"]] == ["colour"]


def test_a_film_that_ends_otherwise_is_refused_with_its_reason(world: World) -> None:
    key = {"Idempotency-Key": "film-1", **AT_ONCE}
    video_id = world.post("/v1/videos/sync", ORDER, headers=key).json()["video"]
    world.post(f"/v1/videos/{video_id}/cancel")
    refused = world.post("/v1/videos/sync", ORDER, headers=key)
    assert (refused.status_code, refused.json()["code"], refused.json()["reason"]) == (409, "conflict", "cancelled")
    assert refused.headers["x-should-retry"] == "false"


def test_a_bad_order_holds_nothing(world: World) -> None:
    for changes in ({"model": "no-such"}, {"prompt": "x" * 5_001}, {"first_frame": "https://localhost/a.png"}):
        refused = world.post("/v1/videos/sync", {**ORDER, **changes})
        assert refused.status_code == 422, refused.text
    assert world.get("/v1/wallet").json()["held"] == "0.00"
    assert world.get("/v1/videos").json()["data"] == []


def test_a_server_says_that_it_lives_and_which_model_it_serves(world: World) -> None:
    assert world.app.get("/health").status_code == 200
    info = world.get("/v1/model_info").json()
    assert info["id"] == info["models"][0] == info["model_path"] == "demo"
    assert world.post("/v1/videos/estimates", {**ORDER, "model": info["model_path"]}).status_code == 200


def test_a_job_shows_its_times_in_the_names_of_inference_servers(world: World) -> None:
    video = world.post("/v1/videos", ORDER).json()
    assert (video["num_frames"], video["fps"], video["duration_s"]) == (16, 16, 1.0)
    assert video["inference_time_s"] is None
    world.work()
    done = world.get(f"/v1/videos/{video['id']}").json()
    assert done["inference_time_s"] > 0
    assert done["stage_durations"]["denoise_gen_ms"] == round(1000 * done["meter"]["seconds"]["denoise"], 1)
    assert done["peak_memory_mb"] > 0


def test_a_call_that_may_not_wait_orders_nothing(world: World) -> None:
    with ExitStack() as stack:
        for _ in range(STREAMS_EACH_MAX):
            stack.enter_context(stream_slot(world.alice_id))
        refused = world.post("/v1/videos/sync", ORDER)
    assert refused.status_code == 429, refused.text
    assert world.get("/v1/videos").json()["data"] == []


def test_a_deleted_film_is_gone_under_its_key(world: World) -> None:
    key = {"Idempotency-Key": "film-1", **AT_ONCE}
    video_id = world.post("/v1/videos/sync", ORDER, headers=key).json()["video"]
    world.work()
    assert world.delete(f"/v1/videos/{video_id}").status_code < 300
    gone = world.post("/v1/videos/sync", ORDER, headers=key)
    assert (gone.status_code, gone.json()["video"]) == (410, video_id), gone.text
