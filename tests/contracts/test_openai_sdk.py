"""OpenAI's Python SDK, unmodified, with its base URL pointing here."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.live_service import Service, follow

pytestmark = [
    pytest.mark.xdist_group("service"),
    # The SDK marks its own video methods as deprecated; the API continues in self-hosted servers.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=service.keys["pro"]) as client:
        yield client


def test_create_and_poll_then_download_all_variants(client: openai.OpenAI, tmp_path: Path) -> None:
    video = client.videos.create_and_poll(
        model="synthetic", prompt="bars", seconds="1", size="832x480", poll_interval_ms=200
    )
    assert video.status == "completed", video
    assert (video.seconds, video.size, video.progress) == ("1", "832x480", 100)
    assert video.price["total"] == video.charged  # type: ignore[attr-defined]
    for variant, magic in (("video", b"ftyp"), ("thumbnail", b"\xff\xd8"), ("spritesheet", b"\xff\xd8")):
        content = client.videos.download_content(video.id, variant=variant)  # type: ignore[arg-type]
        assert magic in content.read()[:16]


def test_fields_beyond_openai_travel_in_extra_body(client: openai.OpenAI) -> None:
    video = client.videos.create(
        prompt="",
        extra_body={
            "model": "synthetic",
            "shots": [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 1}],
            "resolution": "480P",
            "seed": 7,
            "metadata": {"scene": "12"},
        },
    )
    assert [shot["prompt"] for shot in video.shots] == ["one", "two"]  # type: ignore[attr-defined]
    assert video.seed == 7  # type: ignore[attr-defined]
    assert video.metadata == {"scene": "12"}  # type: ignore[attr-defined]
    assert client.videos.retrieve(video.id).id == video.id


def test_the_prompt_of_a_storyboard_is_its_style_line(client: openai.OpenAI) -> None:
    shots = [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 1}]
    video = client.videos.create(
        prompt="Watercolour, soft light", extra_body={"model": "synthetic", "shots": shots, "resolution": "480P"}
    )
    assert [shot["prompt"] for shot in video.shots] == [  # type: ignore[attr-defined]
        "Watercolour, soft light\none",
        "Watercolour, soft light\ntwo",
    ]
    assert video.resolved["style"] == "Watercolour, soft light"  # type: ignore[attr-defined]
    done = client.videos.poll(video.id, poll_interval_ms=200)
    assert (done.status, done.seconds) == ("completed", "2")
    with pytest.raises(openai.UnprocessableEntityError, match="With its style line") as refused:
        client.videos.create(prompt="x" * 5_000, extra_body={"model": "synthetic", "shots": shots})
    assert refused.value.param == "shots.0.prompt"


def test_an_uploaded_reference_is_the_first_frame(client: openai.OpenAI) -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 360), (200, 30, 30)).save(file, "PNG")
    video = client.videos.create(
        model="synthetic",
        prompt="from a picture",
        seconds="1",  # type: ignore[arg-type]
        size="832x480",  # type: ignore[arg-type]
        input_reference=("first.png", file.getvalue(), "image/png"),
    )
    assert video.resolved["mode"] == "i2v"  # type: ignore[attr-defined]


def test_list_follows_its_cursor_and_delete_removes(client: openai.OpenAI) -> None:
    video_ids = [
        client.videos.create_and_poll(
            model="synthetic", prompt=f"p{n}", seconds="1", size="832x480", poll_interval_ms=200
        ).id
        for n in range(3)
    ]
    seen = [video.id for video in client.videos.list(limit=2)]
    assert set(video_ids) <= set(seen)
    assert len(seen) == len(set(seen))
    assert client.videos.delete(video_ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video_ids[0])


def test_a_film_is_cancelled_by_a_post_of_the_client(client: openai.OpenAI, service: Service) -> None:
    video = client.videos.create(prompt="stop", extra_body={"model": "synthetic", "seconds": 60, "resolution": "480P"})
    # The SDK has no method for it.
    cancelled = client.post(f"/videos/{video.id}/cancel", cast_to=type(video))
    assert cancelled.id == video.id
    with service.client("pro") as native:
        assert follow(native, video.id)["status"] == "cancelled"


def test_errors_read_as_the_sdk_expects(client: openai.OpenAI, service: Service) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.videos.create(model="synthetic", prompt="x", size="1x1")  # type: ignore[arg-type]
    assert refused.value.code == "unsupported_size"
    assert refused.value.param == "size"
    with (
        openai.OpenAI(base_url=f"{service.base_url}/v1", api_key="cm_live_wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.videos.list()
    assert {model.id for model in client.models.list()} >= {"demo", "synthetic"}


BAD_ORDERS: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str]] = {
    "unknown_model": ({"model": "no-such"}, openai.UnprocessableEntityError, "There is no enabled video model"),
    "url_refused": ({"first_frame": "https://localhost/a.png"}, openai.UnprocessableEntityError, "URL"),
    "price_above_cap": ({"max_price": "0.01"}, openai.APIStatusError, "above the cap"),
    "insufficient_funds": ({}, openai.APIStatusError, "wallet"),
    "invalid_request": ({"prompt": "x" * 5_001}, openai.UnprocessableEntityError, "at most 5000 characters"),
}


@pytest.fixture(scope="module")
def poor_key(service: Service) -> str:
    """A key of an account without money."""
    with service.client("admin") as operator:
        account = operator.post("/v1/admin/accounts", json={"name": "Poor"}).raise_for_status().json()["id"]
        scopes = {"scopes": ["videos", "billing"]}
        key = operator.post(f"/v1/admin/accounts/{account}/keys", json=scopes).raise_for_status().json()["secret"]
    return str(key)


@pytest.mark.parametrize("code", [*BAD_ORDERS])
def test_a_bad_order_raises_its_own_exception_and_holds_nothing(service: Service, poor_key: str, code: str) -> None:
    changes, kind, sentence = BAD_ORDERS[code]
    with (
        service.client(poor_key) as http,
        openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=poor_key, max_retries=0) as client,
    ):
        with pytest.raises(kind, match=sentence) as refused:
            client.videos.create(prompt="bars", extra_body={"model": "synthetic", "resolution": "1080P", **changes})
        assert refused.value.code == code
        assert http.get("/v1/wallet").json()["held"] == "0.00"
        assert http.get("/v1/videos").json()["data"] == []


class LosesTheFirstAnswer(httpx.BaseTransport):
    """A network that delivers every request, and drops the answer to the first order."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.orders: list[Any] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.inner.handle_request(request)
        if request.method == "POST":
            answer.read()
            self.orders.append(answer.json()["id"])
            if len(self.orders) == 1:
                raise httpx.ReadError("the answer was lost", request=request)
        return answer

    def close(self) -> None:
        self.inner.close()


def test_its_own_retries_never_make_a_second_job(service: Service) -> None:
    network = LosesTheFirstAnswer()
    with openai.OpenAI(
        base_url=f"{service.base_url}/v1",
        api_key=service.keys["enterprise"],
        http_client=httpx.Client(transport=network),
    ) as client:
        video = client.videos.create(model="synthetic", prompt="lost answer", seconds="1", size="832x480")  # type: ignore[arg-type]
    assert network.orders == [video.id, video.id]


def test_remix_edit_and_extend(client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(
        model="synthetic", prompt="source", seconds="1", size="832x480", poll_interval_ms=200
    )
    remixed = client.videos.remix(video.id, prompt="another light")
    assert remixed.remixed_from_video_id == video.id
    film = client.videos.download_content(video.id).read()
    edited = client.videos.edit(prompt="as snow", video=("film.mp4", film, "video/mp4"))
    assert edited.resolved["mode"] == "edit"  # type: ignore[attr-defined]
    longer = client.videos.extend(prompt="and on", seconds="1", video=("film.mp4", film, "video/mp4"))  # type: ignore[arg-type]
    assert longer.seconds == "2"
    for each in (remixed, edited, longer):
        assert client.videos.poll(each.id, poll_interval_ms=200).status == "completed"
