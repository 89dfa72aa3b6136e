"""Endpoints, deliveries, the event feed and assets over HTTP."""

import base64
import http.server
import io
import threading
from urllib.parse import urlsplit

import pytest
from httpx2 import Response
from PIL import Image

from app.settings import get_settings
from app.storage import get_storage
from app.webhooks.test_send import EACH_MAX
from tests.api_client import World
from tests.app.net.receiver import Receiver

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (320, 200), (10, 120, 200)).save(file, "PNG")
    return file.getvalue()


def test_the_lifecycle_of_an_endpoint(world: World) -> None:
    response = world.post("/v1/webhook_endpoints", {"url": "https://example.com/hook", "event_types": ["video.*"]})
    assert response.status_code == 200, response.text
    endpoint = response.json()
    assert endpoint["signing_secret"].startswith("whsec_")
    address = f"/v1/webhook_endpoints/{endpoint['id']}"
    assert world.get(address).json().get("signing_secret") is None
    assert world.get(address, key=world.bob).status_code == 404
    assert world.post(address, {"name": "billing"}).json()["name"] == "billing"
    rotated = world.post(f"{address}/rotate_secret", {"keep_old_secret_active_for_24_hours": True}).json()
    assert rotated["signing_secret"] != endpoint["signing_secret"]
    assert [each["id"] for each in world.get("/v1/webhook_endpoints").json()["data"]] == [endpoint["id"]]
    video = world.post("/v1/videos", ORDER).json()
    deliveries = world.get(f"{address}/deliveries").json()["data"]
    assert [each["event_type"] for each in deliveries] == ["video.created"]
    one = world.get(f"/v1/webhook_deliveries/{deliveries[0]['id']}").json()
    assert one["attempt_log"] == []
    assert world.post(f"/v1/webhook_deliveries/{one['id']}/redeliver").json()["state"] == "pending"
    assert world.delete(address).json()["deleted"] is True
    assert world.get(address).status_code == 404
    feed = world.get("/v1/events").json()
    assert feed["data"][-1]["data"]["id"] == video["id"]
    assert world.get("/v1/events", params={"after": feed["last_id"]}).json()["data"] == []


def test_a_picture_is_kept_and_used_as_first_frame(world: World) -> None:
    uploaded = world.post("/v1/assets", files={"file": ("a.png", picture(), "image/png")})
    assert uploaded.status_code == 200, uploaded.text
    asset = uploaded.json()
    assert (asset["kind"], asset["width"], asset["height"], asset["state"]) == ("picture", 320, 200, "ready")
    assert world.get(f"/v1/assets/{asset['id']}", key=world.bob).status_code == 404
    video = world.post("/v1/videos", {**ORDER, "first_frame": asset["id"]}).json()
    assert video["resolved"]["mode"] == "i2v"
    world.work()
    assert world.get(f"/v1/videos/{video['id']}").json()["status"] == "completed"
    assert world.delete(f"/v1/assets/{asset['id']}").json()["deleted"] is True
    assert world.get(f"/v1/assets/{asset['id']}").status_code == 404


def test_a_file_in_two_steps(world: World) -> None:
    begun = world.post("/v1/assets/uploads", {"content_type": "image/png", "bytes": len(picture())}).json()
    path = urlsplit(begun["upload"]["url"]).path
    # The response has everything a client needs: no key, as with a presigned URL of a bucket.
    put = world.app.put(path, content=picture(), headers=begun["upload"]["headers"])
    assert put.status_code == 200, put.text
    forged = world.app.put(path.replace(".", ".9", 1), content=picture(), headers=begun["upload"]["headers"])
    assert (forged.status_code, forged.json()["code"]) == (404, "not_found")
    assert world.post(f"/v1/assets/{begun['id']}/confirm").json()["state"] == "ready"


def test_what_is_no_picture_is_refused(world: World) -> None:
    refused = world.post("/v1/assets", files={"file": ("a.png", b"not a picture", "image/png")})
    assert (refused.status_code, refused.json()["code"]) == (422, "asset_refused")
    inner = world.post("/v1/assets/from_url", {"url": "http://169.254.169.254/latest/meta-data"})
    assert inner.status_code == 422


def test_an_estimate_with_a_picture_keeps_nothing(world: World) -> None:
    address = "data:image/png;base64," + base64.b64encode(picture()).decode()
    for _ in range(2):
        priced = world.post("/v1/videos/estimates", {**ORDER, "first_frame": address})
        assert priced.json()["resolved"]["mode"] == "i2v", priced.text
    response = world.post("/v1/videos/estimates", data=ORDER, files={"first_frame": ("a.png", picture(), "image/png")})
    assert response.json()["total"] == priced.json()["total"]
    broken = world.post("/v1/videos/estimates", {**ORDER, "first_frame": address, "last_frame": "data:,nothing"})
    assert (broken.status_code, broken.json()["field"]) == (422, "last_frame")
    assert world.get("/v1/assets").json()["data"] == []
    assert list(get_storage().list("")) == []


@pytest.mark.parametrize("interface", ["native", "dashscope"])
def test_a_repeated_order_does_not_fetch_its_url_again(
    world: World, monkeypatch: pytest.MonkeyPatch, interface: str
) -> None:
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    urls: list[str] = []

    class Once(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            urls.append(self.path)
            self.send_response(200 if len(urls) == 1 else 410)
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Once) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.png"
        first, again = (order_with(world, interface, address, "a") for _ in range(2))
        server.shutdown()
    assert (first.status_code, again.status_code) == (200, 200), again.text
    id_of = {"native": lambda body: body["id"], "dashscope": lambda body: body["output"]["task_id"]}[interface]
    assert id_of(first.json()) == id_of(again.json())
    assert len(urls) == len(world.get("/v1/assets").json()["data"]) == 1


def order_with(world: World, interface: str, address: str, key: str) -> Response:
    """Order a film that starts with the picture at a URL."""
    headers = {"Idempotency-Key": key}
    if interface == "native":
        return world.post("/v1/videos", {**ORDER, "first_frame": address}, headers=headers)
    task = {
        "model": "synthetic",
        "input": {"prompt": "bars", "img_url": address},
        "parameters": {"duration": 1, "size": "832*480"},
    }
    path = "/api/v1/services/aigc/image2video/video-synthesis"
    return world.post(path, task, headers={**headers, "X-DashScope-Async": "enable"})


def test_test_sends_to_a_hanging_endpoint_block_no_other_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    with Receiver() as receiver:
        endpoints = [
            world.post("/v1/webhook_endpoints", {"url": receiver.url(path)}, key=key).json()["id"]
            for path, key in (("/hang", world.alice), ("/ok", world.bob))
        ]
        hanging, well = (f"/v1/webhook_endpoints/{each}/test" for each in endpoints)
        slow = [threading.Thread(target=world.post, args=(hanging, {})) for _ in range(EACH_MAX)]
        for each in slow:
            each.start()
        assert receiver.wait_for(lambda requests: len(requests) == EACH_MAX)
        more = world.post(hanging, {})
        assert (more.status_code, more.json()["code"], more.json()["allowed"]) == (429, "rate_limited", EACH_MAX)
        assert int(more.headers["retry-after"]) > 0
        assert world.post(well, {}, key=world.bob).json()["success"] is True
    for each in slow:
        each.join()
    assert world.post(hanging, {}).status_code == 200, "the places were given back"
