"""Error responses: in each interface's format, including the framework's errors, with the headers for clients."""

import base64
import io
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from redis import Redis

from app.accounts.accounts import create_account, suspend
from app.accounts.keys import issue_key
from app.api.application import create_app
from app.api.dashscope.errors import CODES
from app.cli.embedded import Servers
from app.db import transaction
from app.errors import ERROR_CODES
from app.metrics import REQUESTS
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from tests.api_client import SCOPES, World

TASKS = "/api/v1/services/aigc/video-generation/video-synthesis"
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TASK: dict[str, Any] = {
    "model": "synthetic",
    "input": {"prompt": "a"},
    "parameters": {"duration": 1, "size": "832*480"},
}
ASYNC = {"X-DashScope-Async": "enable"}


def send(world: World, method: str, path: str, **options: Any) -> Any:
    headers = {"Authorization": f"Bearer {world.alice}", **ASYNC, **options.pop("headers", {})}
    return world.app.request(method, path, headers=headers, **options)


def assert_native(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert (body["status"], body["code"], body["error"]["code"]) == (status, code, code)
    assert body["request_id"] == answer.headers["x-request-id"]


def assert_dashscope(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    body = answer.json()
    assert set(body) - {"field"} == {"code", "message", "request_id"}
    assert (body["code"], body["request_id"]) == (code, answer.headers["x-request-id"])


def assert_gateway(answer: Any, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "request_id"}
    assert (body["error"]["type"], body["request_id"]) == (kind, answer.headers["x-request-id"])


def assert_replicate(answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["status"], body["code"], body["request_id"]) == (status, code, answer.headers["x-request-id"])
    assert body["detail"]


PREDICTIONS = "/replicate/v1/models/cinemeter/synthetic/predictions"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input": {"prompt": "x", "duration": 1.5}}, "input.duration"),
        ({"input": {"prompt": "x", "lora": "a"}}, "input.lora"),
        ({"input": {"prompt": "x", "seconds": 1, "duration": 1}}, "input.duration"),
        ({"input": "x"}, "input"),
        ({"input": {"prompt": "x"}, "webhook": "https://example.com/", "webhook_events_filter": ["begin"]}, None),
        ({"input": {"prompt": "x"}, "webhook": "ftp://example.com/"}, "webhook"),
    ],
)
def test_what_a_prediction_cannot_ask_for_is_refused_by_name(
    world: World, change: dict[str, Any], field: str | None
) -> None:
    refused = send(world, "POST", PREDICTIONS, json=change)
    assert_replicate(refused, 422, "url_refused" if field == "webhook" else "invalid_request")
    assert refused.json()["field"] == (field or "webhook_events_filter")
    assert world.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n": 11}, "n"),
        ({"duration": 1.5}, "duration"),
        ({"inputReferences": [{"type": "url", "url": "https://example.com/a.png"}]}, "inputReferences"),
        ({"image": {"type": "file", "mediaType": "image/png", "data": "?"}}, "image.data"),
        ({"frameImages": [{"frameType": "middle"}]}, "frameImages.0.frameType"),
        ({"providerOptions": {"cinemeter": {"seed": -1}}}, "providerOptions.cinemeter.seed"),
        ({"knob": 1}, "knob"),
    ],
)
def test_what_a_gateway_call_cannot_ask_for_is_refused_by_name(
    world: World, change: dict[str, Any], field: str
) -> None:
    for path in ("/v4/ai/video-model", "/v4/ai/video-model/start"):
        body = {"prompt": "x", "resolution": "832x480", "duration": 1, **change}
        refused = send(world, "POST", path, json=body, headers={"ai-model-id": "cinemeter/synthetic"})
        assert_gateway(refused, 422, "invalid_request_error")
        assert refused.json()["error"]["param"] == field
    assert world.get("/v1/videos").json()["data"] == []


def test_unknown_models_and_ids_read_as_each_client_expects(world: World) -> None:
    unknown = send(world, "POST", "/v4/ai/video-model", json={"prompt": "x"}, headers={"ai-model-id": "cinemeter/no"})
    assert_gateway(unknown, 404, "model_not_found")
    assert unknown.json()["error"]["param"] == {"modelId": "cinemeter/no"}
    absent = send(world, "POST", "/v4/ai/video-model/status", json={"operation": {"id": "video_x"}})
    assert_gateway(absent, 404, "not_found")
    assert_replicate(send(world, "GET", "/replicate/v1/predictions/video_x"), 404, "not_found")
    for path in ("models/other/synthetic", "models/cinemeter/no"):
        assert_replicate(send(world, "GET", f"/replicate/v1/{path}"), 404, "unknown_model")
    body = {"version": "other/synthetic", "input": {"prompt": "x"}}
    assert_replicate(send(world, "POST", "/replicate/v1/predictions", json=body), 404, "unknown_model")


def test_a_path_that_does_not_exist(world: World) -> None:
    missing = send(world, "GET", "/v1/nothing")
    assert_native(missing, 404, "not_found")
    assert missing.json()["detail"] == "Not found: /v1/nothing."
    assert_native(send(world, "GET", "/nothing"), 404, "not_found")
    assert_dashscope(send(world, "GET", "/api/v1/nothing"), 404, "NotFound")


def test_a_method_that_is_not_allowed_names_those_that_are(world: World) -> None:
    answer = send(world, "PUT", "/v1/videos/video_x")
    assert_native(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET"
    assert answer.json()["detail"] == "PUT is not allowed here (allowed: DELETE, GET)."
    theirs = send(world, "PUT", "/api/v1/tasks")
    assert_dashscope(theirs, 405, "MethodNotAllowed")
    assert theirs.headers["allow"] == "GET"
    # A stream on which the server would never send anything is not opened.
    stream = send(world, "GET", "/mcp", headers={"Accept": "text/event-stream"})
    assert (stream.status_code, stream.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("raw", [b"{bad", b"[", b"\xff\xfe", b'{"a": NaN', b"[" * 4_000])
def test_broken_json(world: World, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/videos", "/v1/webhook_endpoints"):
        assert_native(send(world, "POST", path, content=raw, headers=headers), 400, "invalid_json")
    assert_dashscope(send(world, "POST", TASKS, content=raw, headers=headers), 400, "InvalidParameter")


@pytest.mark.parametrize(("seconds", "allowed"), [(0, "at least 1"), (900, "at most 600")])
def test_a_number_out_of_bounds_names_the_bound(world: World, seconds: int, allowed: str) -> None:
    refused = send(world, "POST", "/v1/videos", json={**ORDER, "seconds": seconds}).json()
    assert (refused["code"], refused["field"], refused["allowed"]) == ("invalid_request", "seconds", allowed)


def test_a_form_that_cannot_be_read(world: World) -> None:
    for path in ("/v1/videos", "/v1/assets"):
        answer = send(world, "POST", path, content=b"--x", headers={"Content-Type": "multipart/form-data"})
        assert_native(answer, 400, "invalid_form")


def test_a_body_of_a_type_that_is_not_read(world: World) -> None:
    headers = {"Content-Type": "text/plain"}
    for path in ("/v1/videos", "/v1/webhook_endpoints", "/v1/assets/from_url"):
        assert_native(send(world, "POST", path, content=b"hello", headers=headers), 415, "unsupported_media_type")
    assert_dashscope(send(world, "POST", TASKS, content=b"hello", headers=headers), 415, "UnsupportedMediaType")


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b" " * 1024


def test_a_body_that_is_too_large_whether_it_says_so_or_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_BODY_BYTES_MAX", "2048")
    get_settings.cache_clear()
    for content in (lambda: b" " * 4096, lambda: chunks(4)):
        headers = {"Content-Type": "application/json"}
        for path in ("/v1/videos", "/v1/webhook_endpoints"):
            assert_native(send(world, "POST", path, content=content(), headers=headers), 413, "body_too_large")
        assert_dashscope(send(world, "POST", TASKS, content=content(), headers=headers), 413, "RequestTooLarge")


def test_a_file_without_a_valid_key_is_not_read(world: World) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        raise AssertionError("the body was read before it was known who sends it")

    for path in ("/v1/assets", "/v1/videos", "/api/v1/uploads/a.b.1.forged"):
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Authorization": "Bearer cm_live_nobody"}
        answer = world.app.request("POST", path, content=_first(endless()), headers=headers)
        assert answer.status_code in (401, 403), (path, answer.text)


def _first(parts: Iterator[bytes]) -> Iterator[bytes]:
    # The test client sends the whole body before it reads, so this body ends where a slow client has got to.
    yield next(parts)


def test_a_fault_of_ours_has_its_id_and_is_counted(world: World) -> None:
    api = create_app()

    def broken() -> None:
        raise ZeroDivisionError

    for path in ("/v1/broken", "/api/v1/broken"):
        api.add_api_route(path, broken)
    with TestClient(api, raise_server_exceptions=False) as client:
        there = replace(world, app=client)
        counted = REQUESTS.labels("/v1/broken", "GET", 500)
        before = counted._value.get()
        assert_native(send(there, "GET", "/v1/broken"), 500, "internal_error")
        assert counted._value.get() == before + 1
        assert_dashscope(send(there, "GET", "/api/v1/broken"), 500, "InternalError")


def test_every_dashscope_code_belongs_to_an_error_code() -> None:
    assert set(CODES) <= set(ERROR_CODES)


def test_a_used_up_limit_says_when_to_retry_at_both_interfaces(world: World) -> None:
    with transaction() as session:
        # Without a membership the limits are the smallest.
        account = create_account(session, "Carol")
        open_wallet(session, account.id)
        top_up(session, account.id, 100_000, kind="purchased", reference="seed Carol")
        carol = issue_key(session, account.id, scopes=SCOPES)[1]
    first = world.post("/v1/videos", ORDER, key=carol)
    assert first.status_code == 200, first.text
    policies = first.headers["ratelimit-policy"]
    assert policies.startswith('"requests";q=')
    assert '"jobs";q=' in policies
    assert '"jobs";r=' in first.headers["ratelimit"]
    allowed = int(policies.split('"jobs";q=')[1].split(";")[0])
    answers = [world.post("/v1/videos", ORDER, key=carol) for _ in range(allowed)]
    refused = next(answer for answer in answers if answer.json().get("code") == "rate_limited")
    assert_native(refused, 429, "rate_limited")
    assert '"jobs";r=0;t=' in refused.headers["ratelimit"]
    theirs = world.post(TASKS, TASK, key=carol, headers=ASYNC)
    assert_dashscope(theirs, 429, "Throttling.RateQuota")
    # Nor is anything fetched then: this address would be refused.
    fetched = {**TASK, "input": {"prompt": "a", "img_url": "https://127.0.0.1/a.png"}}
    assert_dashscope(world.post(TASKS, fetched, key=carol, headers=ASYNC), 429, "Throttling.RateQuota")
    inner = world.post("/v1/videos", {**ORDER, "first_frame": "https://127.0.0.1/a.png"}, key=carol)
    assert_native(inner, 429, "rate_limited")
    for answer in (refused, theirs):
        assert int(answer.headers["retry-after"]) >= 1
        assert f"t={answer.headers['retry-after']}" in answer.headers["ratelimit"]


def test_a_redis_that_hangs_holds_up_one_request_and_no_other(
    world: World, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    with Redis.from_url(servers.redis_url) as client:
        process = int(client.info("server")["process_id"])  # type: ignore[index]
    os.kill(process, signal.SIGSTOP)
    try:
        answers = [world.get("/v1/videos") for _ in range(5)]
    finally:
        os.kill(process, signal.SIGCONT)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert not any("ratelimit" in answer.headers for answer in answers)
    records = [record for record in caplog.records if "while Redis is away" in record.getMessage()]
    assert len(records) == 1


def test_what_would_only_be_refused_again_is_not_repeated(world: World) -> None:
    once = {"Idempotency-Key": '"order-7"'}
    response = world.post("/v1/videos", ORDER, headers=once)
    assert world.post("/v1/videos", ORDER, headers={"Idempotency-Key": "order-7"}).json()["id"] == response.json()["id"]
    other = world.post("/v1/videos", {**ORDER, "seconds": 2}, headers=once)
    assert_native(other, 422, "idempotency_mismatch")
    unfinished = world.delete(f"/v1/videos/{response.json()['id']}")
    assert_native(unfinished, 409, "not_finished")
    for answer in (other, unfinished):
        assert answer.headers["x-should-retry"] == "false"
    for key in ("", '""', "k" * 256):
        for path, body in (("/v1/videos", ORDER), (TASKS, TASK)):
            answer = world.post(path, body, headers={"Idempotency-Key": key, **ASYNC})
            assert answer.status_code in (400, 422), (path, key)


def sent(world: World, path: str, raw: str | bytes, **options: Any) -> Any:
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    return send(world, options.pop("method", "POST"), path, content=raw, headers=headers, **options)


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/quotes", "/v1/videos/estimates"])
@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"prompt": "a\\u0000b"}', "prompt"),
        ('{"shots": [{"prompt": "a"}, {"prompt": "\\u0000"}]}', "shots.1.prompt"),
        ('{"prompt": "a", "metadata": {"scene": "\\u0000"}}', "metadata.scene"),
        ('{"prompt": "a", "metadata": {"a\\u0000": "b"}}', "metadata.a\\0"),
        ('{"prompt": "a", "metadata": {"scene": "\\udc00"}}', "metadata.scene"),
        ('{"prompt": "a", "x\\ud800": 1}', "x\\ud800"),
        ('{"prompt": "a", "project": "\\u0000"}', "project"),
    ],
)
def test_text_that_cannot_be_stored_is_refused_by_its_field(world: World, path: str, raw: str, field: str) -> None:
    answer = sent(world, path, raw)
    assert_native(answer, 422, "invalid_request")
    assert answer.json()["field"] == field


def test_text_that_cannot_be_stored_is_refused_where_shapes_read_the_body(world: World) -> None:
    film = world.post("/v1/videos", ORDER).json()["id"]
    remix = sent(world, f"/v1/videos/{film}/remix", '{"prompt": "\\u0000"}')
    assert_native(remix, 422, "invalid_request")
    assert remix.json()["field"] == "prompt"
    form = send(world, "POST", "/v1/videos", data={"prompt": "a\0"})
    assert (form.status_code, form.json()["field"]) == (422, "prompt")
    named = sent(world, "/v1/webhook_endpoints", '{"url": "https://example.com/", "\\ud800": 1}')
    assert_native(named, 422, "invalid_request")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ('{"model": "synthetic", "input": {"prompt": "a", "img_url": "oss://\\ud800"}}', "input.img_url"),
        ('{"model": "synthetic", "input": {"prompt": "a", "\\ud800": 1}}', "input.\\ud800"),
        ('{"\\ud800": 1}', "\\ud800"),
        ('{"model": "synthetic", "input": {"prompt": "\\u0000"}}', "input.prompt"),
        ('{"model": "synthetic", "input": {"media": [{"type": ["x"], "url": "y"}]}}', "input.media.0.type"),
    ],
)
def test_a_task_of_nonsense_is_refused_by_its_field(world: World, raw: str, field: str) -> None:
    answer = sent(world, TASKS, raw)
    assert_dashscope(answer, 400, "InvalidParameter")
    assert answer.json()["field"] == field


@pytest.mark.parametrize("name", ["start_time", "end_time"])
def test_a_moment_before_the_calendar_begins(world: World, name: str) -> None:
    answer = send(world, "GET", "/api/v1/tasks", params={name: "00010101000000"})
    assert_dashscope(answer, 400, "InvalidParameter")
    assert answer.json()["field"] == name


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ({"last": "0001-01-01"}, "last"),
        ({"first": "9999-12-31", "last": "9999-12-31"}, "first"),
        ({"first": "2026-01-01", "last": "9999-12-31"}, "last"),
        ({"first": "2026-01-02", "last": "2026-01-01"}, "last"),
    ],
)
def test_usage_of_impossible_days_is_refused(world: World, days: dict[str, str], field: str) -> None:
    answer = send(world, "GET", "/v1/usage", params=days)
    assert_native(answer, 422, "invalid_request")
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"shots": "[" * 4_000}, "shots"),
        ({"shots[²][prompt]": "a"}, "shots"),
        ({"shots[0][prompt]": "a", "shots[0²][prompt]": "a"}, "shots[0²][prompt]"),
        ({f"shots[{'9' * 5000}][prompt]": "a"}, f"shots[{'9' * 5000}][prompt]"),
    ],
)
def test_a_form_of_nonsense_is_refused_by_its_field(world: World, fields: dict[str, str], field: str) -> None:
    answer = send(world, "POST", "/v1/videos", data={"model": "synthetic", **fields})
    assert_native(answer, 422, "invalid_request")
    # A long name is cut.
    name = answer.json()["field"].removesuffix("…")
    assert name
    assert field.startswith(name)


def test_a_suspended_account_gets_nothing_new(world: World) -> None:
    address = "data:image/png;base64," + base64.b64encode(picture((1, 2, 3))).decode()
    endpoint = world.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}).json()["id"]
    begun = world.post("/v1/assets/uploads", {"content_type": "image/png", "bytes": 10}).json()["id"]
    with transaction() as session:
        suspend(session, world.alice_id, "An invoice is open")
    for path, body in (
        ("/v1/videos", ORDER),
        ("/v1/videos", {**ORDER, "first_frame": address}),
        ("/v1/videos/quotes", ORDER),
        ("/v1/assets/from_url", {"url": address}),
        ("/v1/assets/uploads", {"content_type": "image/png", "bytes": 10}),
        (f"/v1/assets/{begun}/confirm", None),
        (f"/v1/webhook_endpoints/{endpoint}/test", {}),
        ("/v1/webhook_endpoints", {"url": "https://example.com/hook"}),
        ("/v1/keys/self/rotate", {}),
    ):
        refused = world.post(path, body)
        assert_native(refused, 403, "account_suspended")
        assert refused.json()["reason"] == "An invoice is open", path
    upload = send(world, "POST", "/v1/assets", files={"file": ("a.png", picture((1, 2, 3)), "image/png")})
    assert_native(upload, 403, "account_suspended")
    assert_dashscope(send(world, "GET", "/api/v1/uploads"), 403, "AccessDenied")
    assert world.get("/v1/videos").status_code == 200, "what there is may still be read"
    assert world.post("/v1/videos/estimates", ORDER).status_code == 200, "nothing is stored and nothing promised"


def test_two_files_of_one_name_and_size_are_two_orders(world: World) -> None:
    headers = {"Idempotency-Key": "with a file"}
    fields = {"model": "synthetic", "prompt": "x", "seconds": "1", "resolution": "480P"}
    answers = [
        world.app.post(
            "/v1/videos",
            data=fields,
            files={"input_reference": ("a.png", content, "image/png")},
            headers={"Authorization": f"Bearer {world.alice}", **headers},
        )
        for content in (picture((10, 20, 30)), picture((10, 20, 30)), picture((10, 20, 31)))
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422], answers[0].text
    assert answers[0].json()["id"] == answers[1].json()["id"]


def picture(colour: tuple[int, int, int]) -> bytes:
    """An uncompressed picture of one colour: of one size, whatever the colour."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG", compress_level=0)
    return file.getvalue()
