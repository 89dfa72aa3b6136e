"""How a job that ends without its film reads at every interface, and downloads before the end."""

from typing import Any

import pytest

from app.db import transaction
from app.jobs.settle import cancel_unrendered, expire, fail
from app.jobs.tables import Job
from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
ENDS = {
    "cancelled": (cancel_unrendered, "cancelled", "JobCanceled", "CANCELED"),
    "expired": (expire, "expired", "JobExpired", "FAILED"),
    "failed": (
        lambda session, job: fail(session, job, code="engine_failed", message="It broke."),
        "engine_failed",
        "InternalError.Algo",
        "FAILED",
    ),
}


@pytest.mark.parametrize("status", [*ENDS])
def test_every_interface_says_why_there_is_no_film(world: World, status: str) -> None:
    end, code, task_code, task_status = ENDS[status]
    video_id = world.post("/v1/videos", ORDER).json()["id"]
    with transaction() as session:
        end(session, session.get_one(Job, video_id, with_for_update=True))
    video = world.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["error"]["code"]) == (status, code)
    assert video["error"]["message"]
    [listed] = world.get("/v1/videos").json()["data"]
    [event] = [each for each in world.get("/v1/events").json()["data"] if each["type"] == f"video.{status}"]
    assert listed["error"] == event["data"]["error"] == video["error"]
    task = world.get(f"/api/v1/tasks/{video_id}").json()["output"]
    [listed_task] = world.get("/api/v1/tasks").json()["data"]
    for each in (task, listed_task):
        assert (each["task_status"], each["code"], each["message"]) == (
            task_status,
            task_code,
            video["error"]["message"],
        )
    gone = world.get(f"/v1/videos/{video_id}/content")
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


def test_a_download_before_the_end_says_when_to_ask_again(world: World) -> None:
    video_id = world.post("/v1/videos", ORDER).json()["id"]
    for variant in ("video", "thumbnail", "spritesheet"):
        early = world.get(f"/v1/videos/{video_id}/content", params={"variant": variant})
        assert (early.status_code, early.json()["code"]) == (409, "conflict")
        assert int(early.headers["retry-after"]) > 0
    assert world.app.head(f"/v1/videos/{video_id}/content", headers={"Authorization": f"Bearer {world.alice}"}).headers[
        "retry-after"
    ]
