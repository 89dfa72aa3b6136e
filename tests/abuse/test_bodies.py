"""Bodies made to be expensive: refused before they are parsed, by few bytes, with a key and without."""

import base64
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.api.body_checks import FIELDS_MAX, JSON_BYTES_MAX, VALUES_MAX, check_form, check_json
from app.api.mcp.routes import BODY_BYTES_MAX as MCP_BODY_BYTES_MAX
from app.cli.asgi import create_site
from app.errors import FINDINGS_MAX, REFUSAL_BYTES_MAX, AppError
from app.jobs.order_warnings import FIELD_LENGTH_MAX, WARNINGS_MAX
from tests.abuse.bodies import JSON, MEBIBYTE, hostile_bodies, routes_with_bodies
from tests.api_client import World

# Routes whose own limit is larger than these bodies, for a sender whom they know: forms with files and data URLs.
UPLOADS = ("/v1/videos", "/v1/assets", "/mcp", "/api/v1/services/aigc/", "/replicate/v1/files")
# Routes that need no key, so that their bodies are read: within limits of their own (tests/app/verification).
KEYLESS = {"/v1/verify", "/verify"}
KEYLESS_STATUSES = {400, 403, 413, 422, 429}


Pairs = Callable[[Iterable[str]], Iterator[tuple[str, str, str]]]


@pytest.fixture
def site(world: World) -> Iterator[World]:
    with TestClient(create_site(), raise_server_exceptions=False, follow_redirects=False) as client:
        yield replace(world, app=client)


def pairs(kinds: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Pair every route with two kinds of bodies, and every kind with many routes."""
    names = itertools.cycle(kinds)
    for method, path in routes_with_bodies():
        for _ in range(2):
            yield method, path, next(names)


def every_pair(kinds: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for method, path in routes_with_bodies():
        for name in kinds:
            yield method, path, name


@pytest.mark.parametrize("select_pairs", [pairs, pytest.param(every_pair, marks=pytest.mark.deep)])
def test_a_stranger_is_refused_at_every_route_before_the_body_is_parsed(site: World, select_pairs: Pairs) -> None:
    bodies = hostile_bodies()
    for method, path, name in select_pairs(bodies):
        raw, headers = bodies[name]
        answer = site.app.request(method, path, content=raw, headers=headers)
        is_page = not path.startswith(("/v1/", "/api/", "/mcp"))
        expected = {413, 401, 303} if is_page else {401, 403, 404}
        if path in KEYLESS:
            expected = KEYLESS_STATUSES
        assert answer.status_code in expected or name == "gzip", (method, path, name, answer.status_code)
        assert answer.status_code < 500, (method, path, name)
        assert len(answer.content) < REFUSAL_BYTES_MAX, (method, path, name)


def test_the_key_is_looked_at_before_a_body_of_any_size(site: World) -> None:
    for method, path in routes_with_bodies():
        has_key = path.startswith(("/v1/", "/mcp")) and not path.startswith("/v1/assets/uploads/token")
        if has_key and path not in KEYLESS:
            answer = site.app.request(method, path, content=b"{not JSON", headers={"content-type": JSON})
            assert answer.status_code == 401, (method, path, answer.text)


@pytest.mark.parametrize("select_pairs", [pairs, pytest.param(every_pair, marks=pytest.mark.deep)])
def test_a_customer_is_refused_at_every_route_by_few_bytes(site: World, select_pairs: Pairs) -> None:
    bodies = hostile_bodies(MEBIBYTE // 2)
    for method, path, name in select_pairs(bodies):
        raw, headers = bodies[name]
        if path.startswith(UPLOADS) and headers["content-type"].startswith("multipart"):
            continue
        headers = {**headers, "authorization": f"Bearer {site.alice}"}
        answer = site.app.request(method, path, content=raw, headers=headers)
        expected = {413, 403, 404, 401, 303, 400, 415} | (KEYLESS_STATUSES if path in KEYLESS else set())
        assert answer.status_code in expected or name == "gzip", (method, path, name, answer.status_code, answer.text)
        assert answer.status_code < 500, (method, path, name)
        assert len(answer.content) < REFUSAL_BYTES_MAX, (method, path, name)


def test_a_large_picture_is_not_sent_to_mcp_in_a_call(world: World) -> None:
    """The MCP library would parse it on the event loop, while every other request waits."""
    url = "data:image/png;base64," + "A" * MCP_BODY_BYTES_MAX
    arguments = {"order": {"prompt": "a", "first_frame": url}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "estimate", "arguments": arguments}}
    answer = world.post("/mcp", call, headers={"Accept": "application/json, text/event-stream"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("name", ["parts without end", "line ends", "after the last part"])
def test_a_form_that_is_none_is_refused(world: World, name: str) -> None:
    raw, headers = hostile_bodies(4 * MEBIBYTE)[name]
    for path in ("/v1/videos", "/v1/assets"):
        answer = world.app.post(path, content=raw, headers={**headers, "authorization": f"Bearer {world.alice}"})
        assert answer.status_code in (400, 422), (path, answer.text)


def test_of_many_findings_a_refusal_names_twenty(world: World) -> None:
    fields = {f"unknown_{number}{'x' * 30}": 1 for number in range(VALUES_MAX - 100)}
    for path in ("/v1/videos", "/v1/webhook_endpoints"):
        answer = world.post(path, {"prompt": "a", **fields})
        assert answer.status_code == 422
        assert len(answer.json()["errors"]) == FINDINGS_MAX
        assert len(answer.content) < REFUSAL_BYTES_MAX


@pytest.mark.parametrize("name", ["x", "é", "\x01"])
def test_a_refusal_is_short_whatever_it_repeats(world: World, name: str) -> None:
    for path in ("/v1/videos", "/v1/webhook_endpoints", "/api/v1/services/aigc/video-generation/video-synthesis"):
        body = {name * 20_000 + str(number): 1 for number in range(2)}
        answer = world.post(path, body, headers={"X-DashScope-Async": "enable", "Prefer": "handling=strict"})
        assert answer.status_code in (400, 422), answer.text[:500]
        assert len(answer.content) < REFUSAL_BYTES_MAX


def test_of_many_ignored_fields_a_video_names_twenty(world: World) -> None:
    fields = {f"{'x' * 10}{number}": 1 for number in range(VALUES_MAX - 100)}
    order = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    lenient = {"Prefer": "handling=lenient", "X-DashScope-Async": "enable"}
    video = world.post("/v1/videos", {**order, **fields, "é" * 20_000: 1}, headers=lenient)
    body = {"model": "synthetic", "input": {"prompt": "bars"}, **fields}
    task = world.post("/api/v1/services/aigc/video-generation/video-synthesis", body, headers=lenient)
    for warnings in (video.json()["warnings"], task.json()["output"]["warnings"]):
        assert len(warnings) == WARNINGS_MAX
        assert all(len(each["field"]) <= FIELD_LENGTH_MAX for each in warnings)


def picture_url() -> str:
    """A data URL that is larger than other bodies may be."""
    file = io.BytesIO()
    Image.effect_noise((900, 700), 100).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_data_url_may_be_larger_than_other_bodies(world: World) -> None:
    url = picture_url()
    assert len(url) > JSON_BYTES_MAX
    order = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P", "first_frame": url}
    assert world.post("/v1/videos/estimates", order).status_code in (200, 422)
    escaped = json.dumps({"url": url}).replace("/", "\\/")
    answer = world.app.post(
        "/v1/assets/from_url", content=escaped, headers={"authorization": f"Bearer {world.alice}", "content-type": JSON}
    )
    assert (answer.status_code, answer.json()["state"]) == (200, "ready"), answer.text[:500]
    elsewhere = world.post("/v1/webhook_endpoints", {"url": url})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": "' + b"x " * JSON_BYTES_MAX + b'"}',
        b'{"a": "data:' + b"\\n" * JSON_BYTES_MAX + b'"}',
        b'{"a": "\\"data:' + b"x" * JSON_BYTES_MAX + b'"}',
        b"[" + b"1," * VALUES_MAX + b"1]",
        b'["a", "' + b'", "'.join([b"b"] * VALUES_MAX) + b'"]',
        b'{"a": "unfinished \\",\\",' + b"," * 100 + b'", "b": [' + b"[]," * VALUES_MAX,
    ],
    ids=["long text", "escapes", "no data URL", "many numbers", "many texts", "many lists"],
)
def test_json_that_is_too_much(raw: bytes) -> None:
    with pytest.raises(AppError) as refused:
        check_json(raw)
    assert refused.value.code == "body_too_large"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_of_another_encoding(encoding: str) -> None:
    with pytest.raises(AppError) as refused:
        check_json('{"prompt": "∢"}'.encode(encoding))
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"prompt": "' + b"one, two, [three], {four}, " * 5_000 + b'"}',
        b'{"prompt": "unfinished' + b"," * VALUES_MAX,
        b'{"prompt": "unfinished' + b",\\" * VALUES_MAX,
        b'{"a": "data:image/png;base64,' + b"A" * 10 * JSON_BYTES_MAX + b'"}',
        b'{"a": "data:;base64,' + (b"A" * 63 + b"\\/") * JSON_BYTES_MAX + b'", "b": ["data:' + b"A" * 2000 + b'"]}',
        b'{"a": "' + b"A" * 10 * JSON_BYTES_MAX + b'==", "b": "' + (b"A" * 63 + b"\\/") * JSON_BYTES_MAX + b'"}',
        b"",
    ],
    ids=["prose", "unfinished", "unfinished escape", "data URL", "escaped slashes", "bare base64", "nothing"],
)
def test_json_that_may_be_parsed(raw: bytes) -> None:
    check_json(raw)


def test_a_form_of_many_fields() -> None:
    check_form(b"a=1&" * (FIELDS_MAX - 1))
    with pytest.raises(AppError):
        check_form(b"a=1&" * FIELDS_MAX)
