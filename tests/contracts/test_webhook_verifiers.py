"""Webhooks of a running service: managed by OpenAI's SDK, received over a socket, verified by third-party code."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from standardwebhooks import Webhook
from svix.webhooks import Webhook as SvixWebhook

from tests.app.net.receiver import Received, Receiver
from tests.live_service import Service, follow

pytestmark = [
    pytest.mark.xdist_group("service"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TYPES: Any = ["video.completed", "video.failed"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=service.keys["enterprise"]) as client:
        yield client


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with service.client("enterprise") as opened:
        yield opened


def of_type(requests: list[Received], type_: str) -> list[Received]:
    return [request for request in requests if f'"type":"{type_}"'.encode() in request.body]


def test_the_sdk_manages_endpoints(client: openai.OpenAI, receiver: Receiver) -> None:
    endpoint = client.webhooks.create(name="sdk", url=receiver.url("/ok"), event_types=TYPES)
    assert endpoint.signing_secret.startswith("whsec_")
    assert (endpoint.object, endpoint.name, endpoint.event_types) == ("webhook_endpoint", "sdk", TYPES)
    assert endpoint.id in [endpoint.id for endpoint in client.webhooks.list()]
    assert client.webhooks.retrieve(endpoint.id).signing_secret_hint == endpoint.signing_secret_hint
    assert client.webhooks.update(endpoint.id, name="renamed").name == "renamed"
    rotated = client.webhooks.rotate_secret(endpoint.id)
    assert rotated.signing_secret != endpoint.signing_secret
    rotated_again = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    tested = client.webhooks.test(endpoint.id, event_type="video.completed")
    assert (tested.success, tested.status_code) == (True, 200)
    [request] = receiver.requests
    for secret in (rotated.signing_secret, rotated_again.signing_secret):
        event = client.webhooks.unwrap(request.body.decode(), request.headers, secret=secret)
        assert event.type == "video.completed"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(request.body.decode(), request.headers, secret=endpoint.signing_secret)
    assert "video.completed" in client.webhooks.event_types.list().data
    assert client.webhooks.delete(endpoint.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(endpoint.id)


def test_a_jobs_end_arrives_at_its_endpoint_and_its_callback(
    client: openai.OpenAI, http: httpx.Client, receiver: Receiver
) -> None:
    endpoint = client.webhooks.create(name="all", url=receiver.url("/ok"), event_types=TYPES)
    callback = http.post("/v1/webhook_callback_secret/rotate", json={}).raise_for_status().json()
    job = (
        http.post("/v1/videos", json={**ORDER, "callback_url": receiver.url("/ok/callback")}).raise_for_status().json()
    )
    arrived = lambda requests: {request.target for request in of_type(requests, "video.completed")}  # noqa: E731
    assert receiver.wait_for(lambda requests: arrived(requests) == {"/ok", "/ok/callback"}, 60)
    secrets = {"/ok": endpoint.signing_secret, "/ok/callback": callback["signing_secret"]}
    for request in of_type(receiver.requests, "video.completed"):
        secret = secrets[request.target]
        SvixWebhook(secret).verify(request.body, request.headers)
        event = Webhook(secret).verify(request.body.decode(), request.headers)
        assert event["data"]["id"] == job["id"]
        assert event["data"]["price"]["total"] == job["price"]["total"]
        assert event["data"]["receipt"]
    client.webhooks.delete(endpoint.id)


def test_the_feed_has_the_same_events_without_gaps(http: httpx.Client) -> None:
    job = http.post("/v1/videos", json=ORDER).raise_for_status().json()
    follow(http, job["id"])
    story: list[dict[str, Any]] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        cursor = {"after": page["last_id"]} if page["last_id"] else {}
        page = http.get("/v1/events", params={"limit": 3, **cursor}).raise_for_status().json()
        story += [event for event in page["data"] if event["data"]["id"] == job["id"]]
    assert [event["type"] for event in story] == ["video.created", "video.started", "video.completed"]
    assert [event["sequence"] for event in story] == [1, 2, 3]
