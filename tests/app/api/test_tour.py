"""A tour of the API as a customer: models, billing, webhooks, assets and tasks."""

import base64
import io
from datetime import UTC, datetime, timedelta

from PIL import Image

from tests.api_client import World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TASKS = "/api/v1/services/aigc"


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (320, 200), (10, 120, 200)).save(file, "PNG")
    return file.getvalue()


def test_the_service_says_that_it_lives_and_what_it_can(world: World) -> None:
    assert world.app.get("/healthz").json() == {"status": "ok"}
    assert world.app.get("/readyz").status_code == 200
    model = world.get("/v1/models/synthetic").json()
    assert model["id"] == "synthetic"
    assert model in world.get("/v1/models").json()["data"]


def test_a_film_is_in_receipts_usage_and_statement(world: World) -> None:
    video = world.post("/v1/videos", ORDER).json()
    world.work()
    charged = world.get(f"/v1/videos/{video['id']}").json()["charged"]
    assert [each["video"] for each in world.get("/v1/receipts").json()["data"]] == [video["id"]]
    usage = world.get("/v1/usage").json()
    assert usage["total"] == charged
    assert world.get("/v1/statements").json()["total"] == charged
    assert world.get("/v1/receipts", key=world.bob).json()["data"] == []


def test_callback_secrets_rotate_and_endpoints_are_tested_and_recovered(world: World) -> None:
    before = world.get("/v1/webhook_callback_secret").json()
    after = world.post("/v1/webhook_callback_secret/rotate", {"keep_old_hours": 1}).json()
    assert after["signing_secret_hint"] != before["signing_secret_hint"]
    assert "video.completed" in world.get("/v1/webhook_event_types").json()["data"]
    endpoint = world.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}).json()
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    sample = world.post(f"{path}/test", {"event_type": "video.completed"})
    assert sample.status_code == 200, sample.text
    video = world.post("/v1/videos", ORDER).json()
    since = datetime.fromtimestamp(video["created_at"], UTC) - timedelta(days=1)
    period = {"since": since.isoformat().replace("+00:00", "Z"), "dry_run": True}
    recovered = world.post(f"{path}/recover", period)
    assert recovered.status_code == 200, recovered.text
    assert world.get("/v1/webhook_deliveries").json()["data"]
    assert world.get(f"/v1/videos/{video['id']}").json()["status"] == "queued"


def test_an_asset_comes_by_data_url(world: World) -> None:
    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    asset = world.post("/v1/assets/from_url", {"url": url}).json()
    assert world.get(f"/v1/assets/{asset['id']}").json() == asset
    assert world.get("/v1/assets").json()["data"] == [asset]


def test_a_task_of_dashscope_is_a_job_with_a_local_file(world: World) -> None:
    policy = world.get("/api/v1/uploads", params={"action": "getPolicy", "model": "synthetic"}).json()["data"]
    key = f"{policy['upload_dir']}/a.png"
    host = policy["upload_host"].partition("/api/")
    put = world.app.post(f"/api/{host[2]}", data={"key": key}, files={"file": ("a.png", picture(), "image/png")})
    assert put.status_code == 200, put.text
    body = {
        "model": "synthetic",
        "input": {"prompt": "bars", "img_url": f"oss://{key}"},
        "parameters": {"resolution": "480P", "duration": 1, "seed": 7},
    }
    headers = {"x-dashscope-async": "enable"}
    task = world.post(f"{TASKS}/video-generation/video-synthesis", body, headers=headers).json()["output"]
    also = world.post(f"{TASKS}/image2video/video-synthesis", body, headers=headers).json()["output"]
    listed = world.get("/api/v1/tasks").json()["data"]
    assert {each["task_id"] for each in listed} == {task["task_id"], also["task_id"]}
    cancelled = world.post(f"/api/v1/tasks/{task['task_id']}/cancel").json()
    assert cancelled["output"]["task_status"] == "CANCELED"
    assert world.get(f"/v1/videos/{task['task_id']}").json()["status"] == "cancelled"
