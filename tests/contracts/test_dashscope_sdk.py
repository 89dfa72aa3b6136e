"""DashScope's SDK, unchanged, in all of its surfaces, with only its base URL changed."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import dashscope
import httpx
import pytest
from dashscope import VideoSynthesis
from dashscope.aigc.video_synthesis import AioVideoSynthesis
from dashscope.api_entities.aio_session import close_shared_aio_session
from dashscope.v2.errors import APIStatusError, AuthenticationError, BadRequestError, NotFoundError
from PIL import Image

from tests.live_service import Service, follow

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.filterwarnings("ignore")]
SMALL: dict[str, Any] = {"model": "synthetic", "resolution": "480P", "duration": 1}


@pytest.fixture
def base_url(service: Service) -> Iterator[str]:
    before = dashscope.base_http_api_url
    dashscope.base_http_api_url = f"{service.base_url}/api/v1"
    yield dashscope.base_http_api_url
    dashscope.base_http_api_url = before


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Two local files, with a name that has to be spelled with care."""
    paths = []
    for number, colour in enumerate(((200, 30, 30), (30, 30, 200))):
        path = tmp_path / f"a frame & {number} 画.png"
        Image.new("RGB", (640, 360), colour).save(path)
        paths.append(str(path))
    return paths


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
    assert (answer.usage["SR"], answer.usage["size"], answer.usage["ratio"]) == (480, "832*480", "16:9")


def test_a_task_is_a_job_with_the_same_price_at_both_interfaces(service: Service, base_url: str) -> None:
    key = service.keys["pro"]
    # Newer clients always send these; they are accepted because they have no effect.
    asks_nothing = {"watermark": False, "prompt_extend": False, "shot_type": "single"}
    task = VideoSynthesis.async_call(
        api_key=key, prompt="both interfaces", ratio="16:9", negative_prompt="blur", **asks_nothing, **SMALL
    )
    assert task.output.task_status == "PENDING"
    with service.client("pro") as native:
        order = {"model": "synthetic", "prompt": "both interfaces", "resolution": "480P", "seconds": 1}
        price = native.post("/v1/videos/estimates", json=order).json()["total"]
        video = follow(native, task.output.task_id)
        assert video["price"]["total"] == video["charged"] == price
        native_video = native.post("/v1/videos", json=order).json()
    ended = VideoSynthesis.wait(task, api_key=key)
    assert ended.output.task_status == "SUCCEEDED"
    assert VideoSynthesis.fetch(task, api_key=key).output.task_id == video["id"]
    assert VideoSynthesis.fetch(native_video["id"], api_key=key).output.task_id == native_video["id"]


def test_list_by_page_and_by_every_filter(service: Service, base_url: str) -> None:
    key = service.keys["creator"]
    tasks = [VideoSynthesis.call(api_key=key, prompt=f"list {number}", **SMALL) for number in range(2)]
    task_ids = [task.output.task_id for task in reversed(tasks)]
    listed = VideoSynthesis.list(
        api_key=key,
        status="SUCCEEDED",
        model_name="synthetic",
        start_time="20200101000000",
        end_time="20990101000000",
        page_no=1,
        page_size=2,
    )
    assert listed.status_code == HTTPStatus.OK
    assert [task["task_id"] for task in listed.output["data"]] == task_ids
    assert {task["status"] for task in listed.output["data"]} == {"SUCCEEDED"}
    one_key = listed.output["data"][0]["api_key_id"]
    assert VideoSynthesis.list(api_key=key, api_key_id=one_key).output["total"] >= 2
    assert VideoSynthesis.list(api_key=key, api_key_id="another").output["total"] == 0
    assert VideoSynthesis.list(api_key=key, status="SUSPENDED").output["total"] == 0
    assert VideoSynthesis.list(api_key=key, end_time="20200101000000").output["total"] == 0
    for wrong in ({"region": "cn-beijing"}, {"status": "NOPE"}, {"start_time": "yesterday"}, {"page_size": 0}):
        refused = VideoSynthesis.list(api_key=key, **wrong)
        assert (refused.status_code, refused.code) == (400, "InvalidParameter"), wrong
        assert next(iter(wrong)) in refused.message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"audio": "loud"}, "parameters.audio"),
        ({"template": "flying"}, "input.template"),
        ({"reference_urls": ["https://example.com/a.png"]}, "input.reference_urls"),
        ({"duration": 0}, "parameters.duration"),
        ({"duration": "long"}, "parameters.duration"),
        ({"seed": -1}, "parameters.seed"),
        ({"seed": 2**31}, "parameters.seed"),
        ({"media": [{"type": "reference_voice", "url": "https://example.com/a.mp3"}]}, "input.media.0.type"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_the_callers_own_name(
    service: Service, base_url: str, changes: dict[str, Any], named: str
) -> None:
    refused = VideoSynthesis.async_call(api_key=service.keys["pro"], prompt="x", **{**SMALL, **changes})
    assert (refused.status_code, refused.code) == (400, "InvalidParameter")
    assert named in refused.message


@pytest.mark.parametrize(
    "changes",
    [{"watermark": True}, {"prompt_extend": True}, {"shot_type": "multi"}, {"duration": -1}],
    ids=lambda changes: next(iter(changes)),
)
def test_switches_that_leave_the_film_as_it_is_are_warnings(
    service: Service, base_url: str, changes: dict[str, Any]
) -> None:
    [name] = changes
    order = {"api_key": service.keys["enterprise"], "prompt": "x", **SMALL, **changes}
    task = VideoSynthesis.async_call(**order)
    assert task.status_code == HTTPStatus.OK, task
    assert [each["field"] for each in task.output["warnings"]] == [f"parameters.{name}"]
    VideoSynthesis.cancel(task, api_key=service.keys["enterprise"])
    ended = VideoSynthesis.wait(task, api_key=service.keys["enterprise"])
    assert ended.output.task_status in ("CANCELED", "SUCCEEDED")
    if ended.output.task_status == "CANCELED":
        assert (ended.output["code"], bool(ended.output["message"])) == ("JobCanceled", True)
    refused = VideoSynthesis.async_call(**order, headers={"Prefer": "handling=strict"})
    assert (refused.status_code, refused.code) == (400, "InvalidParameter")
    assert f"parameters.{name}" in refused.message


def test_unknown_ids_and_refusals_read_as_its_clients_expect(service: Service, base_url: str) -> None:
    key = service.keys["pro"]
    assert VideoSynthesis.fetch("no-such-task", api_key=key).output.task_status == "UNKNOWN"
    assert VideoSynthesis.wait("no-such-task", api_key=key).output.task_status == "UNKNOWN"
    absent = VideoSynthesis.cancel("no-such-task", api_key=key)
    assert (absent.status_code, absent.code) == (404, "NotFound")
    stranger = VideoSynthesis.async_call(api_key="cm_live_wrong", model="synthetic", prompt="x")
    assert (stranger.status_code, stranger.code) == (401, "InvalidApiKey")
    wrong = VideoSynthesis.async_call(api_key=key, model="no-such-model", prompt="x")
    assert (wrong.status_code, wrong.code) == (404, "ModelNotFound")
    keyframes = VideoSynthesis.async_call(api_key=key, model="no-such-kf2v-model", prompt="x")
    assert (keyframes.status_code, keyframes.code) == (404, "ModelNotFound")


def test_cancel(service: Service, base_url: str) -> None:
    key = service.keys["enterprise"]
    task = VideoSynthesis.async_call(api_key=key, model="synthetic", prompt="stop", resolution="480P", duration=60)
    cancelled = VideoSynthesis.cancel(task, api_key=key)
    assert cancelled.status_code == HTTPStatus.OK, cancelled
    with service.client("enterprise") as native:
        assert follow(native, task.output.task_id)["status"] == "cancelled"
    assert VideoSynthesis.fetch(task, api_key=key).output.task_status == "CANCELED"
    again = VideoSynthesis.cancel(task, api_key=key)
    assert (again.status_code, again.code) == (400, "UnsupportedOperation")


def test_local_files_become_first_and_last_frame(service: Service, base_url: str, pictures: list[str]) -> None:
    key = service.keys["pro"]
    task = VideoSynthesis.async_call(api_key=key, prompt="a picture", img_url=f"file://{pictures[0]}", **SMALL)
    assert task.status_code == HTTPStatus.OK, task
    both = VideoSynthesis.async_call(
        api_key=key, prompt="two pictures", first_frame_url=pictures[0], last_frame_url=pictures[1], **SMALL
    )
    with service.client("pro") as native:
        assert native.get(f"/v1/videos/{task.output.task_id}").json()["resolved"]["mode"] == "i2v"
        assets = native.get("/v1/assets", params={"limit": 3}).json()["data"]
        assert sorted(asset["filename"] for asset in assets) == sorted(Path(pictures[n]).name for n in (0, 0, 1))
        assert follow(native, both.output.task_id)["status"] == "completed"
    stolen = VideoSynthesis.async_call(api_key=key, prompt="x", img_url="oss://folder_of_others/a.png", **SMALL)
    assert (stolen.status_code, stolen.code) == (404, "NotFound")


def test_an_upload_url_accepts_its_own_files_once(service: Service, base_url: str, pictures: list[str]) -> None:
    with service.client("pro") as client:
        policy = client.get("/api/v1/uploads", params={"action": "getPolicy", "model": "synthetic"}).json()["data"]
    picture = Path(pictures[0]).read_bytes()

    def put(key: str, address: str = policy["upload_host"]) -> httpx.Response:
        return httpx.post(address, data={"key": key}, files={"file": ("a.png", picture, "image/png")}, timeout=60)

    key = f"{policy['upload_dir']}/a.png"
    assert put(key).status_code == 200
    assert put(key).json()["code"] == "UnsupportedOperation"
    assert put("another/a.png").json()["code"] == "InvalidParameter"
    # The last character of base64 also holds bits that count for nothing; the one before it does not.
    *start, changed, last = policy["upload_host"]
    forged = put(key, "".join((*start, "A" if changed != "A" else "B", last)))
    assert (forged.status_code, forged.json()["code"]) == (403, "AccessDenied")


def test_the_asynchronous_surface(service: Service, base_url: str) -> None:
    asyncio.run(_asynchronously(service.keys["pro"]))


async def _asynchronously(key: str) -> None:
    try:
        await _use(key)
    finally:
        # The SDK keeps one session for each event loop and leaves closing it to the owner of the loop.
        await close_shared_aio_session()


async def _use(key: str) -> None:
    done = await AioVideoSynthesis.call(api_key=key, prompt="bars", **SMALL)
    assert done.output.task_status == "SUCCEEDED"
    task = await AioVideoSynthesis.async_call(api_key=key, prompt="stop", **{**SMALL, "duration": 60})
    assert (await AioVideoSynthesis.fetch(task, api_key=key)).output.task_status in ("PENDING", "RUNNING")
    assert (await AioVideoSynthesis.cancel(task, api_key=key)).status_code == HTTPStatus.OK
    assert (await AioVideoSynthesis.wait(task, api_key=key)).output.task_status == "CANCELED"
    listed = await AioVideoSynthesis.list(api_key=key, status="CANCELED", page_size=5)
    assert task.output.task_id in {each["task_id"] for each in listed.output["tasks"]}
    assert (await AioVideoSynthesis.fetch("nothing", api_key=key)).output.task_status == "UNKNOWN"


def test_the_second_surface(service: Service, base_url: str, pictures: list[str]) -> None:
    with dashscope.Client(api_key=service.keys["pro"], base_url=base_url) as client:
        done = client.videos.generate(model="synthetic", prompt="bars", size="832*480", duration=1)
        assert done.succeeded
        assert httpx.get(done.video_url).content[4:8] == b"ftyp"
        job = client.videos.jobs.create(prompt="a picture", image_url=pictures[0], **SMALL)
        listed = client.videos.jobs.create(prompt="media", media=[{"type": "first_frame", "url": pictures[1]}], **SMALL)
        assert client.videos.jobs.wait(job.task_id).succeeded
        assert client.videos.jobs.wait(listed).succeeded
        page = client.videos.jobs.list(page_size=5)
        assert {job.task_id, listed.task_id, done.task_id} <= {each.task_id for each in page.tasks}
        assert {each.status for each in page.tasks} <= {"SUCCEEDED", "PENDING", "RUNNING", "CANCELED", "FAILED"}
        stopped = client.videos.jobs.create(prompt="stop", **{**SMALL, "duration": 60})
        client.videos.jobs.cancel(stopped.task_id)
        assert client.videos.jobs.fetch("nothing").status == client.videos.jobs.wait("nothing").status == "UNKNOWN"


def test_the_second_surface_raises_what_its_users_catch(service: Service, base_url: str) -> None:
    with dashscope.Client(api_key=service.keys["pro"], base_url=base_url) as client:
        jobs = client.videos.jobs
        with pytest.raises(NotFoundError):
            jobs.create(model="no-such-model", prompt="x")
        with pytest.raises(NotFoundError):
            jobs.cancel("nothing")
        with pytest.raises(BadRequestError):
            jobs.create(prompt="x", seed=-1, **SMALL)
        done = jobs.wait(jobs.create(prompt="x", **SMALL))
        with pytest.raises(APIStatusError) as refused:
            jobs.cancel(done.task_id)
        # The client would retry a 409, to no effect.
        assert (refused.value.code, refused.value.status_code) == ("UnsupportedOperation", 400)
    with (
        dashscope.Client(api_key="cm_live_wrong", base_url=base_url) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.videos.jobs.list()


def test_a_bad_order_raises_its_own_exception_and_holds_nothing(service: Service, base_url: str) -> None:
    with service.client("admin") as operator:
        account = operator.post("/v1/admin/accounts", json={"name": "Poor"}).raise_for_status().json()["id"]
        scopes = {"scopes": ["videos", "billing"]}
        key = operator.post(f"/v1/admin/accounts/{account}/keys", json=scopes).raise_for_status().json()["secret"]
    bad_orders: list[tuple[dict[str, Any], str, str]] = [
        ({"model": "no-such"}, "ModelNotFound", "There is no enabled video model"),
        ({"image_url": "https://localhost/a.png"}, "InvalidURL", "URL"),
        ({"prompt": "x" * 5_001}, "InvalidParameter", "at most 5000 characters"),
        ({}, "Arrearage", "The wallet cannot hold"),
    ]
    with dashscope.Client(api_key=key, base_url=base_url) as client, service.client(key) as http:
        for changes, code, sentence in bad_orders:
            with pytest.raises(APIStatusError, match=sentence) as refused:
                client.videos.jobs.create(**{**SMALL, "prompt": "bars", **changes})
            assert refused.value.code == code
            assert http.get("/v1/wallet").json()["held"] == "0.00"
