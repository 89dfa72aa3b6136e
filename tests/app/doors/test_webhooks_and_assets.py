"""Endpoints, deliveries, the event feed and assets through the door."""

import io
from urllib.parse import urlsplit

from PIL import Image

from tests.world import World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def picture() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (320, 200), (10, 120, 200)).save(held, "PNG")
    return held.getvalue()


def test_an_endpoint_lives_its_life(world: World) -> None:
    made = world.post("/v1/webhook_endpoints", {"url": "https://example.com/hook", "event_types": ["video.*"]})
    assert made.status_code == 200, made.text
    endpoint = made.json()
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
    # What the answer says is all that a client needs: no key, as with a presigned address of a bucket.
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
