"""The command line's client: what it sends, what it prints, and how it reports errors."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from app.cli.client import ApiError, Client, answers
from app.cli.film import make_film
from app.cli.ports import free_port
from tests.app.cli.service_fake import FakeService, fake_service

ORDER = {"prompt": "a red circle stays still on a blue background", "seconds": 1}
PRICE = {
    "currency": "CNY",
    "total": "0.44",
    "lines": [{"label": "List price: 1 s", "rule": "rates.1", "amount": "0.44"}],
}
RECEIPT = {
    "number": "R-1",
    "book": {"name": "2026-04-27"},
    "billed_seconds": "1",
    "currency": "CNY",
    "total": "0.44",
    "lines": [{"key": "membership", "rule": "m", "amount": "0.44", "facts": {"title_en": "Pro", "factor": "0.65"}}],
}
FILM = b"\x00\x00\x00\x18ftypmp42"


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as service:
        yield service


def order_goes_through(service: FakeService, **ended: object) -> None:
    video = {
        "id": "video_1",
        "progress": 0,
        "status": "queued",
        "queue_position": 2,
        "seconds": "1",
        "size": "1280x720",
    }
    service.add_answer("POST /v1/videos/quotes", {"id": "quote_1", "book": "2026-04-27", **PRICE})
    service.add_answer("POST /v1/videos", video)
    service.add_answer("GET /v1/videos/video_1", video)
    service.add_answer(
        "GET /v1/videos/video_1", {**video, "status": "completed", "progress": 100, "video_url": "x", **ended}
    )
    service.add_answer("GET /v1/videos/video_1/receipt", RECEIPT)
    service.add_answer("GET /v1/videos/video_1/content", FILM)


def test_a_film_is_quoted_ordered_by_that_quote_and_left_in_the_folder(service: FakeService, tmp_path: Path):
    order_goes_through(service)
    screen = io.StringIO()
    make_film(Client(service.url, "cm_live_x"), ORDER, tmp_path / "film.mp4", Console(file=screen, width=200))
    assert (tmp_path / "film.mp4").read_bytes() == FILM
    create = next(each for each in service.received if (each.method, each.path) == ("POST", "/v1/videos"))
    assert create.body == {**ORDER, "quote_id": "quote_1"}
    assert create.headers["Authorization"] == "Bearer cm_live_x"
    for words in ("Quote quote_1", "List price: 1 s", "Receipt R-1", "Pro membership (×0.65)", f"{tmp_path}/film.mp4"):
        assert words in screen.getvalue()


def test_a_failed_job_leaves_no_file_and_says_why(service: FakeService, tmp_path: Path):
    order_goes_through(
        service, status="failed", video_url=None, error={"code": "engine", "message": "The model broke."}
    )
    with pytest.raises(ApiError, match=r"No film: The model broke"):
        make_film(Client(service.url, "k"), ORDER, tmp_path / "film.mp4", Console(file=io.StringIO()))
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_reported_with_the_services_message(service: FakeService):
    problem = {"code": "unsupported_size", "detail": "There is no such size.", "field": "size", "allowed": "1280x720"}
    service.add_answer("POST /v1/videos", problem, status=422)
    with pytest.raises(ApiError, match=r"^There is no such size\. \(field: size\) Allowed: 1280x720\.$") as caught:
        Client(service.url, "k").post("/v1/videos", {})
    assert (caught.value.code, caught.value.status) == ("unsupported_size", 422)


def test_a_request_is_repeated_with_the_same_idempotency_key(service: FakeService):
    service.add_answer("POST /v1/videos", {"code": "unavailable", "detail": "Away."}, status=503)
    service.add_answer("POST /v1/videos", {"id": "video_1"})
    assert Client(service.url, "k").post("/v1/videos", ORDER) == {"id": "video_1"}
    first, second = service.received
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_a_redirect_to_storage_is_followed_without_the_key(service: FakeService, tmp_path: Path):
    with fake_service() as storage:
        storage.add_answer("GET /bucket/film", FILM)
        service.add_answer("GET /v1/videos/video_1/content", b"", status=302, Location=f"{storage.url}/bucket/film")
        Client(service.url, "cm_live_x").download("/v1/videos/video_1/content", tmp_path / "film.mp4")
        assert "Authorization" not in storage.received[0].headers
    assert (tmp_path / "film.mp4").read_bytes() == FILM


def test_a_download_that_breaks_off_leaves_nothing(service: FakeService, tmp_path: Path):
    service.add_answer("GET /film", FILM, Content_Length="1000", Connection="close")
    with pytest.raises(ApiError, match="stopped after 12 of 1000 bytes"):
        Client(service.url, "k").download("/film", tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.cli.client._POLL_SECONDS", 0.0)
    url = f"http://127.0.0.1:{free_port()}"
    assert not answers(url)
    with pytest.raises(ApiError, match=f"Nothing answers at {url}. Start the service with `cinemeter up`."):
        Client(url, "k").get("/v1/models")
