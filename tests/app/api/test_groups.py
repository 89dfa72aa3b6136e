"""Several films by one call, at each interface: their group, its end, and its cancel."""

import base64
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from app.db import transaction
from app.events.tables import Event
from app.jobs.tables import Job, Quote
from app.webhooks.tables import Delivery
from tests.api_client import World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
TASKS = "/api/v1/services/aigc/video-generation/video-synthesis"


def jobs() -> list[Job]:
    with transaction() as session:
        return list(session.scalars(select(Job).order_by(Job.created_at, Job.group_index)))


def test_the_answer_is_the_first_video_and_the_group_has_all(world: World) -> None:
    first = world.post("/v1/videos", {**ORDER, "n": 3, "seed": 5}).json()
    group = world.get(f"/v1/videos/groups/{first['group']}").json()
    assert [video["seed"] for video in group["videos"]] == [5, 6, 7]
    assert group["videos"][0]["id"] == first["id"]
    assert (group["n"], group["status"], group["counts"]) == (3, "in_progress", {"queued": 3})
    assert world.get(f"/v1/videos/{first['id']}").json()["group"] == first["group"]
    page = world.get("/v1/videos", params={"group": first["group"]}).json()
    assert {video["id"] for video in page["data"]} == {video["id"] for video in group["videos"]}
    world.work()
    ended = world.get(f"/v1/videos/groups/{first['group']}").json()
    assert (ended["status"], ended["counts"]) == ("ended", {"completed": 3})
    assert ended["charged"] == ended["total"]
    events = world.get("/v1/events", params={"limit": 100}).json()["data"]
    [end] = [event for event in events if event["type"] == "group.ended"]
    assert (end["data"]["id"], end["data"]["counts"]) == (first["group"], {"completed": 3})
    assert [set(video) for video in end["data"]["videos"]] == [{"id", "status", "seed", "charged", "video_url"}] * 3
    of_videos = [event for event in events if event["type"].startswith("video.")]
    assert {event["data"]["group"] for event in of_videos} == {first["group"]}
    assert world.delete(f"/v1/videos/{first['id']}").status_code == 200
    assert len(world.get(f"/v1/videos/groups/{first['group']}").json()["videos"]) == 2


def test_a_quote_of_several_has_their_total_and_orders_them_once(world: World) -> None:
    one = world.post("/v1/videos/quotes", ORDER).json()
    quote = world.post("/v1/videos/quotes", {**ORDER, "n": 2}).json()
    assert Decimal(quote["total"]) == 2 * Decimal(one["total"])
    assert sum(Decimal(line["amount"]) for line in quote["lines"]) == Decimal(quote["total"])
    assert {line["label"][:13] for line in quote["lines"]} == {"2 films, each"}
    assert quote["resolved"]["n"] == 2
    assert world.post("/v1/videos/estimates", {**ORDER, "n": 2}).json()["total"] == quote["total"]
    body = {**ORDER, "n": 2, "quote_id": quote["id"]}
    first = world.post("/v1/videos", body).json()
    assert world.post("/v1/videos", body).json()["id"] == first["id"]
    assert len(jobs()) == 2
    with transaction() as session:
        assert set(session.scalars(select(Quote.state).where(Quote.id != one["id"]))) == {"redeemed"}


def test_a_group_is_cancelled_by_one_call_that_says_what_was(world: World) -> None:
    first = world.post("/v1/videos", {**ORDER, "n": 3}).json()
    assert world.post(f"/v1/videos/{first['id']}/cancel").json()["status"] == "cancelled"
    cancelled = world.post(f"/v1/videos/groups/{first['group']}/cancel").json()
    assert [each["id"] for each in cancelled["not_cancelled"]] == [first["id"]]
    assert cancelled["not_cancelled"][0]["code"] == "already_final"
    assert cancelled["cancelled"] == [video["id"] for video in cancelled["videos"]][1:]
    assert (cancelled["status"], cancelled["counts"]) == ("ended", {"cancelled": 3})
    again = world.post(f"/v1/videos/groups/{first['group']}/cancel").json()
    assert (again["cancelled"], len(again["not_cancelled"])) == ([], 3)


def test_bad_counts_and_seeds_are_refused_by_name(world: World) -> None:
    for change, field in (
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": 2, "seeds": [1]}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [1, 2], "seed": 1}, "seed"),
    ):
        refused = world.post("/v1/videos", {**ORDER, **change})
        assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text
    refused = world.post("/v1/videos/sync", {**ORDER, "n": 2})
    assert (refused.status_code, refused.json()["field"]) == (422, "n")
    assert jobs() == []


def test_every_film_counts_against_the_jobs_per_minute(world: World) -> None:
    answer = world.post("/v1/videos", {**ORDER, "n": 4})
    policy = answer.headers["RateLimit"].split(", ")[-1]
    limit = int(answer.headers["RateLimit-Policy"].split('"jobs";q=')[1].split(";")[0])
    assert f"r={limit - 4}" in policy


def test_a_repeated_order_counts_once(world: World) -> None:
    limit = int(world.post("/v1/videos", ORDER).headers["RateLimit-Policy"].split('"jobs";q=')[1].split(";")[0])
    order, key = {**ORDER, "n": 3}, {"Idempotency-Key": "films"}
    first = world.post("/v1/videos", order, headers=key)
    again = world.post("/v1/videos", order, headers=key)
    assert again.json()["id"] == first.json()["id"]
    for answer in (first, again):
        assert f"r={limit - 4}" in answer.headers["RateLimit"].split(", ")[-1]


def test_inference_servers_names_of_the_count_are_understood(world: World) -> None:
    form = {**ORDER, "seconds": "1", "num_outputs_per_prompt": "2"}
    first = world.app.post(
        "/v1/videos",
        files={name: (None, value) for name, value in form.items()},
        headers={"Authorization": f"Bearer {world.alice}"},
    ).json()
    assert first["group"] is not None
    assert len(jobs()) == 2


def test_a_dashscope_task_of_several_has_a_result_for_each(world: World) -> None:
    body = {
        "model": "synthetic",
        "input": {"prompt": "bars"},
        "parameters": {"duration": 1, "resolution": "480P", "n": 2, "seed": 3},
    }
    task = world.post(TASKS, body, headers={"X-DashScope-Async": "enable"}).json()["output"]
    assert task["task_status"] == "PENDING"
    assert "video_url" not in task
    world.work()
    ended = world.get(f"/api/v1/tasks/{task['task_id']}").json()
    assert ended["output"]["task_status"] == "SUCCEEDED"
    assert ended["output"]["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}
    assert ended["output"]["video_url"] == ended["output"]["results"][0]["video_url"]
    assert (ended["usage"]["video_count"], ended["usage"]["output_video_duration"]) == (2, 2)
    other = world.post(TASKS, body, headers={"X-DashScope-Async": "enable"}).json()["output"]["task_id"]
    cancelled = world.post(f"/api/v1/tasks/{other}/cancel").json()["output"]
    assert cancelled["task_status"] == "CANCELED"
    assert world.get(f"/api/v1/tasks/{other}", key=world.bob).json()["output"]["task_status"] == "UNKNOWN"
    assert world.post(f"/api/v1/tasks/{other}/cancel").status_code >= 400


def test_a_replicate_prediction_of_several_has_a_list_of_films(world: World) -> None:
    body = {"version": "synthetic", "input": {"prompt": "bars", "duration": 1, "resolution": "480p", "num_outputs": 2}}
    prediction = world.post("/replicate/v1/predictions", body).json()
    assert (prediction["status"], prediction["output"]) == ("starting", None)
    address = f"/replicate/v1/predictions/{prediction['id']}"
    world.work()
    ended = world.get(address).json()
    assert (ended["status"], ended["error"], len(ended["output"])) == ("succeeded", None, 2)
    assert ended["input"]["num_outputs"] == 2
    assert ended["logs"].splitlines()[-1].startswith("100%|")
    other = world.post("/replicate/v1/predictions", body).json()["id"]
    assert world.post(f"/replicate/v1/predictions/{other}/cancel").json()["status"] == "canceled"
    assert world.get(address, key=world.bob).status_code == 404


def test_the_gateway_answers_with_all_films(world: World) -> None:
    call = {"prompt": "bars", "n": 2, "resolution": "832x480", "duration": 1, "seed": 3}
    headers = {"ai-model-id": "cinemeter/synthetic"}
    started = world.post("/v4/ai/video-model/start", call, headers=headers).json()
    operation = {"operation": started["operation"]}
    assert world.post("/v4/ai/video-model/status", operation).json()["status"] == "pending"
    world.work()
    ended = world.post("/v4/ai/video-model/status", operation).json()
    assert ended["status"] == "completed"
    assert [base64.b64decode(film["data"])[4:8] for film in ended["videos"]] == [b"ftyp", b"ftyp"]
    assert [each["seed"] for each in ended["providerMetadata"]["cinemeter"]["videos"]] == [3, 4]
    assert world.post("/v4/ai/video-model/status", operation, key=world.bob).status_code == 404


def test_a_callback_of_a_group_is_called_once(world: World) -> None:
    order = {**ORDER, "n": 2, "callback_url": "https://example.com/done"}
    first = world.post("/v1/videos", order).json()
    world.post(f"/v1/videos/groups/{first['group']}/cancel")
    with transaction() as session:
        types = session.execute(select(Event.type, Delivery.url).join(Delivery, Delivery.event_id == Event.id)).all()
    assert [tuple(each) for each in types] == [("group.ended", "https://example.com/done")]
