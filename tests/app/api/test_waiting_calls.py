"""Calls that wait for their film: what they occupy meanwhile, and large pictures in their bodies."""

import base64
import io
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
# Places for large bodies that one account has.
PLACES = 4
DEADLINE_SECONDS = 60.0
_tick = threading.Event()


def picture(bytes_min: int) -> str:
    """A PNG of noise, of more than so many bytes, as base64."""
    side = int((bytes_min / 3) ** 0.5) + 64
    file = io.BytesIO()
    Image.effect_noise((side, side), 100).convert("RGB").save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > bytes_min
    return base64.b64encode(file.getvalue()).decode()


def video_ids(world: World) -> list[str]:
    return [each["id"] for each in world.get("/v1/videos").json()["data"]]


def wait_for_orders(world: World, count: int, answers: list[Future[Any]]) -> None:
    for _ in range(int(DEADLINE_SECONDS / 0.05)):
        ended = [answer.result().text[:300] for answer in answers if answer.done()]
        assert not ended, ended
        if len(video_ids(world)) >= count:
            return
        _tick.wait(0.05)
    raise AssertionError("the calls have not ordered their films in time")


def wait_by_sync(world: World, number: int, data: str) -> Any:
    return world.post("/v1/videos/sync", {**ORDER, "seed": number, "first_frame": f"data:image/png;base64,{data}"})


def wait_by_replicate(world: World, number: int, data: str) -> Any:
    values = {"prompt": "bars", "duration": 1, "resolution": "480p", "seed": number}
    body = {"input": {**values, "image": f"data:image/png;base64,{data}"}}
    path = "/replicate/v1/models/cinemeter/synthetic/predictions"
    return world.post(path, body, headers={"Prefer": "wait=60"})


def wait_by_gateway(world: World, number: int, data: str) -> Any:
    body = {"prompt": "bars", "resolution": "832x480", "duration": 1, "seed": number}
    image = {"type": "file", "mediaType": "image/png", "data": data}
    return world.post("/v4/ai/video-model", {**body, "image": image}, headers={"ai-model-id": "cinemeter/synthetic"})


@pytest.mark.parametrize("call", [wait_by_sync, wait_by_replicate, wait_by_gateway])
def test_calls_that_wait_hold_no_places_for_large_bodies(world: World, call: Any) -> None:
    data = picture(300_000)
    with ThreadPoolExecutor(PLACES) as pool:
        answers: list[Future[Any]] = []
        try:
            for number in range(PLACES):
                answers.append(pool.submit(call, world, number, data))
                wait_for_orders(world, number + 1, answers)
            body = {**ORDER, "first_frame": f"data:image/png;base64,{data}"}
            estimate = world.post("/v1/videos/estimates", body)
            assert estimate.status_code == 200, estimate.text[:500]
        finally:
            for video_id in video_ids(world):
                world.post(f"/v1/videos/{video_id}/cancel")


def test_the_gateway_takes_pictures_of_more_than_a_mebibyte(world: World) -> None:
    data = picture(1_500_000)
    image = {"type": "file", "mediaType": "image/png", "data": data}
    body = {"prompt": "bars", "resolution": "832x480", "duration": 1, "image": image}
    started = world.post("/v4/ai/video-model/start", body, headers={"ai-model-id": "cinemeter/synthetic"})
    assert started.status_code == 200, started.text[:500]
    video = world.get(f"/v1/videos/{started.json()['operation']['id']}").json()
    assert video["resolved"]["mode"] == "i2v"
