"""DashScope's SDK, unchanged, in both of its surfaces: only the base URL points here."""

from collections.abc import Iterator
from http import HTTPStatus

import dashscope
import httpx
import pytest
from dashscope import VideoSynthesis

from tests.live import Service, follow

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def base_url(service: Service) -> Iterator[str]:
    before = dashscope.base_http_api_url
    dashscope.base_http_api_url = f"{service.base_url}/api/v1"
    yield dashscope.base_http_api_url
    dashscope.base_http_api_url = before


def test_call_waits_for_the_film(service: Service, base_url: str) -> None:
    answer = VideoSynthesis.call(
        api_key=service.keys["pro"], model="synthetic", prompt="bars", size="832*480", duration=1, seed=5
    )
    assert answer.status_code == HTTPStatus.OK, answer
    assert answer.output.task_status == "SUCCEEDED"
    film = httpx.get(answer.output.video_url)
    assert film.status_code == 200
    assert film.content[4:8] == b"ftyp"
    assert answer.usage["video_duration"] == 1
    assert answer.usage["SR"] == 480


def test_a_task_is_a_job_seen_through_both_doors_at_one_price(service: Service, base_url: str) -> None:
    key = service.keys["pro"]
    task = VideoSynthesis.async_call(
        api_key=key, model="synthetic", prompt="both doors", resolution="480P", ratio="16:9", duration=1
    )
    assert task.output.task_status == "PENDING"
    with service.client("pro") as native:
        order = {"model": "synthetic", "prompt": "both doors", "resolution": "480P", "seconds": 1}
        price = native.post("/v1/videos/estimates", json=order).json()["total"]
        video = follow(native, task.output.task_id)
        assert video["price"]["total"] == video["charged"] == price
    ended = VideoSynthesis.wait(task, api_key=key)
    assert ended.output.task_status == "SUCCEEDED"
    assert VideoSynthesis.fetch(task, api_key=key).output.task_id == video["id"]
    listed = VideoSynthesis.list(api_key=key, status="SUCCEEDED", page_size=50)
    assert listed.status_code == HTTPStatus.OK


def test_unknown_ids_and_refusals_read_as_its_clients_expect(service: Service, base_url: str) -> None:
    key = service.keys["pro"]
    assert VideoSynthesis.fetch("no-such-task", api_key=key).output.task_status == "UNKNOWN"
    refused = VideoSynthesis.async_call(api_key=key, model="synthetic", prompt="x", duration=1, watermark=True)
    assert refused.status_code == 422
    assert refused.code == "InvalidParameter"
    assert "watermark" in refused.message
    stranger = VideoSynthesis.async_call(api_key="cm_live_wrong", model="synthetic", prompt="x")
    assert (stranger.status_code, stranger.code) == (401, "InvalidApiKey")
    wrong = VideoSynthesis.async_call(api_key=key, model="no-such-model", prompt="x")
    assert wrong.code == "ModelNotFound"


def test_cancel(service: Service, base_url: str) -> None:
    key = service.keys["enterprise"]
    task = VideoSynthesis.async_call(api_key=key, model="synthetic", prompt="stop", resolution="480P", duration=60)
    cancelled = VideoSynthesis.cancel(task, api_key=key)
    assert cancelled.status_code == HTTPStatus.OK, cancelled
    with service.client("enterprise") as native:
        assert follow(native, task.output.task_id)["status"] == "cancelled"
    assert VideoSynthesis.fetch(task, api_key=key).output.task_status == "CANCELED"


def test_the_second_surface(service: Service, base_url: str) -> None:
    with dashscope.Client(api_key=service.keys["pro"], base_url=base_url) as client:
        job = client.videos.jobs.create(model="synthetic", prompt="bars", size="832*480", duration=1)
        done = client.videos.jobs.wait(job.task_id)
        assert done.succeeded
        assert httpx.get(done.video_url).content[4:8] == b"ftyp"
        page = client.videos.jobs.list(page_size=5)
        assert job.task_id in {each.task_id for each in page.tasks}
