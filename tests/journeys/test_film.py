"""The native API from quote to receipt: price, order, film, receipt, balance."""

import contextlib
import hmac
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from app.provenance.watermark_reader import read_marks, reduce
from tests.live_service import Service, follow

STORYBOARD: dict[str, Any] = {
    "model": "synthetic",
    "shots": [
        {"prompt": "bars", "seconds": 2},
        {"prompt": "more bars", "seconds": 2, "transition": "crossfade"},
        {"prompt": "last bars", "seconds": 1},
    ],
    "resolution": "480P",
}


# Tests that share the live service run in one process, so that it is started once.
pytestmark = pytest.mark.xdist_group("service")


def test_a_storyboard_becomes_a_paid_film(service: Service, tmp_path: Path) -> None:
    with service.client("pro") as client:
        before = client.get("/v1/wallet").json()
        quote = client.post("/v1/videos/quotes", json=STORYBOARD).raise_for_status().json()
        assert sum(Fraction(line["amount"]) for line in quote["lines"]) == Fraction(quote["total"])
        created = client.post("/v1/videos", json={**STORYBOARD, "quote_id": quote["id"]})
        assert created.status_code == 200, created.text
        again = client.post("/v1/videos", json={**STORYBOARD, "quote_id": quote["id"]})
        assert again.json()["id"] == created.json()["id"]
        other = client.post("/v1/videos", json={**STORYBOARD, "quote_id": quote["id"], "metadata": {"other": "body"}})
        assert (other.status_code, other.json()["code"]) == (422, "quote_used")
        video = follow(client, created.json()["id"])
        assert video["status"] == "completed", video
        assert video["charged"] == quote["total"]
        assert video["meter"]["takes"] == len(STORYBOARD["shots"]) + 1, "one take for each shot, and the finish"
        assert {"queue", "denoise", "decode", "encode", "marks", "upload", "finish"} <= set(video["meter"]["seconds"])
        assert video["meter"]["peak_memory_bytes"] > 0

        content = client.get(f"/v1/videos/{video['id']}/content").raise_for_status()
        film = tmp_path / "film.mp4"
        film.write_bytes(content.content)
        with av.open(str(film)) as opened:
            stream = opened.streams.video[0]
            planes = [frame.to_ndarray(format="yuv444p") for frame in opened.decode(stream)]
            frames = len(planes)
            assert (stream.width, stream.height) == (832, 480)
            assert Fraction(frames, 1) / stream.average_rate == Fraction(video["seconds"])
        key = hmac.digest((service.home / "secret").read_bytes(), b"watermark", "sha256")
        marks = read_marks((reduce(each) for each in planes), key)
        assert [mark.mark_id is not None for mark in marks] == [True], "each shot carries the film's number"
        part = client.get(f"/v1/videos/{video['id']}/content", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, content.content[10:20])
        for variant in ("thumbnail", "spritesheet"):
            picture = client.get(f"/v1/videos/{video['id']}/content", params={"variant": variant})
            assert picture.content.startswith(b"\xff\xd8"), variant

        receipt = client.get(f"/v1/videos/{video['id']}/receipt").json()
        assert receipt["total"] == quote["total"]
        after = client.get("/v1/wallet").json()
        assert Fraction(before["posted"]) - Fraction(after["posted"]) == Fraction(quote["total"])
        assert after["held"] == before["held"]

        assert client.delete(f"/v1/videos/{video['id']}").json()["deleted"] is True
        assert client.get(f"/v1/videos/{video['id']}").status_code == 404
        assert video["id"] in {each["video"] for each in client.get("/v1/receipts").json()["data"]}


def test_pages_of_videos_follow_one_another(service: Service) -> None:
    with service.client("enterprise") as client:
        order = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
        video_ids = [client.post("/v1/videos", json=order).raise_for_status().json()["id"] for _ in range(3)]
        seen: list[str] = []
        after = None
        while True:
            params = {"limit": 2, "order": "asc", **({"after": after} if after else {})}
            page = client.get("/v1/videos", params=params).json()
            seen += [video["id"] for video in page["data"]]
            if not page["has_more"]:
                break
            after = page["last_id"]
        assert seen[-3:] == video_ids
        assert len(seen) == len(set(seen))
        for video_id in video_ids:
            assert follow(client, video_id)["status"] == "completed"


def test_a_repeated_call_makes_one_job(service: Service) -> None:
    order = {"model": "synthetic", "prompt": "once", "seconds": 1, "resolution": "480P"}
    with service.client("pro", **{"Idempotency-Key": "order-1"}) as client:
        first = client.post("/v1/videos", json=order).json()
        assert client.post("/v1/videos", json=order).json()["id"] == first["id"]
        other = client.post("/v1/videos", json={**order, "seconds": 2})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        assert other.headers["x-should-retry"] == "false"
    with service.client("pro", **{"X-Stainless-Retry-Count": "1"}) as client:
        blind = {**order, "prompt": "blind retry"}
        with service.client("pro") as naive:
            original = naive.post("/v1/videos", json=blind).json()
        assert client.post("/v1/videos", json=blind).json()["id"] == original["id"]


def test_a_job_cancelled_before_any_segment_is_free(service: Service) -> None:
    with service.client("pro") as client:
        order = {"model": "synthetic", "prompt": "stop", "seconds": 60, "resolution": "480P"}
        video = client.post("/v1/videos", json=order).raise_for_status().json()
        client.post(f"/v1/videos/{video['id']}/cancel").raise_for_status()
        ended = follow(client, video["id"])
        assert ended["status"] == "cancelled"
        receipt = client.get(f"/v1/videos/{video['id']}/receipt").json()
        assert Fraction(receipt["total"]) <= Fraction(video["price"]["total"])
        again = client.post(f"/v1/videos/{video['id']}/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "already_final")


ORDER = {"model": "synthetic", "prompt": "a", "seconds": 1, "resolution": "480P"}
BAD: list[tuple[dict[str, Any], int, str, str]] = [
    ({"prompt": ""}, 422, "invalid_request", "prompt"),
    ({"prompt": "x" * 5001}, 422, "invalid_request", "prompt"),
    ({"model": "no-such"}, 422, "unknown_model", "model"),
    ({"resolution": None, "size": "123x45"}, 422, "unsupported_size", "size"),
    ({"colour": "red"}, 422, "invalid_request", "colour"),
    ({"seconds": 0}, 422, "invalid_request", "seconds"),
    ({"seconds": 10_000}, 422, "invalid_request", "seconds"),
    ({"max_price": "-1"}, 422, "invalid_request", "max_price"),
    ({"max_price": "0.01"}, 402, "price_above_cap", "max_price"),
    ({"service_tier": "express"}, 422, "invalid_request", "service_tier"),
    ({"quote_id": "quote_unknown"}, 404, "not_found", ""),
    ({"project": "proj_unknown"}, 404, "not_found", ""),
    ({"callback_url": "ftp://example.com"}, 422, "url_refused", "callback_url"),
    ({"first_frame": "asset_unknown"}, 404, "not_found", ""),
    ({"metadata": {"k": "v" * 513}}, 422, "invalid_request", "metadata.k"),
    ({"shots": []}, 422, "invalid_request", "shots"),
]


@pytest.mark.parametrize(("change", "status", "code", "field"), BAD)
def test_bad_input_is_refused_with_a_message_and_costs_nothing(
    service: Service, change: dict[str, Any], status: int, code: str, field: str
) -> None:
    order = {key: value for key, value in {**ORDER, **change}.items() if value is not None}
    with service.client("creator") as client:
        before = (client.get("/v1/wallet").json(), client.get("/v1/videos").json()["first_id"])
        answer = client.post("/v1/videos", json=order)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.json().get("field") or "").startswith(field)
        assert answer.json()["detail"]
        assert (client.get("/v1/wallet").json(), client.get("/v1/videos").json()["first_id"]) == before


def test_broken_calls_are_refused(service: Service) -> None:
    with service.client("pro") as client:
        broken = client.post("/v1/videos", content=b"{", headers={"Content-Type": "application/json"})
        assert (broken.status_code, broken.json()["code"]) == (400, "invalid_json")
        plain = client.post("/v1/videos", content=b"hello", headers={"Content-Type": "text/plain"})
        assert (plain.status_code, plain.json()["code"]) == (415, "unsupported_media_type")
        assert client.get("/v1/videos/video_of_somebody_else").json()["code"] == "not_found"
        assert client.get("/v1/no/such/address").json()["code"] == "not_found"
        assert client.put("/v1/videos").json()["code"] == "method_not_allowed"
    with service.client("cm_live_wrong") as stranger:
        assert (stranger.get("/v1/videos").status_code, stranger.get("/v1/videos").json()["code"]) == (
            401,
            "unauthenticated",
        )
    with service.client("pro") as mine, service.client("creator") as theirs:
        video = mine.post("/v1/videos", json=ORDER).json()
        for path in ("", "/content", "/receipt"):
            assert theirs.get(f"/v1/videos/{video['id']}{path}").status_code == 404
        assert theirs.post(f"/v1/videos/{video['id']}/cancel").status_code == 404


def test_a_body_of_a_hundred_megabytes_is_refused(service: Service) -> None:
    def flood() -> Any:
        for _ in range(100):
            yield b"x" * 2**20

    with service.client("pro") as client:
        answer = client.post("/v1/videos", content=b"x" * (34 * 2**20), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        before = client.get("/v1/videos").json()["first_id"]
        # The server may close the connection before the client has sent everything; either way no job is created.
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            streamed = client.post("/v1/videos", content=flood(), headers={"Content-Type": "application/json"})
            assert streamed.status_code == 413
        assert client.get("/v1/videos").json()["first_id"] == before


def test_the_openapi_document_is_complete(service: Service) -> None:
    document = httpx.get(f"{service.base_url}/openapi.json").raise_for_status().json()
    assert "/v1/videos/quotes" in document["paths"]
    body = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    assert document["components"]["schemas"]["VideoRequest"]["examples"]
