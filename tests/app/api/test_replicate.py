"""The Replicate interface: predictions, their files, models and webhooks."""

import base64
import hashlib
import hmac
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from app.dispatch.claim import claim
from app.dispatch.scheduler import run_round
from app.event_stream import STREAMS_EACH_MAX, stream_slot
from app.jobs.tables import Job
from app.webhooks.claim import claim_deliveries
from tests.api_client import World

INPUT: dict[str, Any] = {"prompt": "bars", "duration": 1, "resolution": "480p"}
PREDICTIONS = "/replicate/v1/predictions"
OF_MODEL = "/replicate/v1/models/cinemeter/synthetic"
PICTURE = Path(__file__).parents[2] / "contracts" / "node" / "frame.png"


def test_a_prediction_goes_from_starting_to_succeeded(world: World) -> None:
    created = world.post(f"{OF_MODEL}/predictions", {"input": {**INPUT, "fps": 1, "guidance_scale": 2}})
    assert created.status_code == 201
    prediction = created.json()
    assert (prediction["status"], prediction["model"], prediction["output"]) == (
        "starting",
        "cinemeter/synthetic",
        None,
    )
    assert "input.guidance_scale was ignored" in prediction["logs"]
    assert "input.fps was ignored" in prediction["logs"]
    world.work()
    ended = world.get(f"{PREDICTIONS}/{prediction['id']}").json()
    assert (ended["status"], ended["error"]) == ("succeeded", None)
    assert ended["logs"].splitlines()[-1].startswith("100%|")
    assert ended["output"].startswith("http")
    assert ended["urls"]["get"].endswith(f"{PREDICTIONS}/{prediction['id']}")


def test_a_file_is_uploaded_and_used_by_its_url(world: World) -> None:
    files = {"content": ("frame.png", PICTURE.read_bytes(), "image/png"), "metadata": (None, "{}", "application/json")}
    uploaded = world.post("/replicate/v1/files", files=files).json()
    assert uploaded["checksums"]["sha256"]
    assert world.get(f"/replicate/v1/files/{uploaded['id']}").json() == uploaded
    body = {"version": "cinemeter/synthetic:synthetic", "input": {**INPUT, "image": uploaded["urls"]["get"]}}
    prediction = world.post(PREDICTIONS, body).json()
    assert world.get(f"/v1/videos/{prediction['id']}").json()["resolved"]["mode"] == "i2v"


def test_an_ended_prediction_stays_as_it_is_when_it_is_cancelled(world: World) -> None:
    prediction = world.post(PREDICTIONS, {"version": "synthetic", "input": INPUT}).json()
    for _ in range(2):
        cancelled = world.post(f"{PREDICTIONS}/{prediction['id']}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "canceled")


def test_a_list_has_a_cursor(world: World) -> None:
    made = [world.post(PREDICTIONS, {"version": "synthetic", "input": INPUT}).json()["id"] for _ in range(3)]
    page = world.get(PREDICTIONS, params={"cursor": made[2]}).json()
    assert [each["id"] for each in page["results"]] == [made[1], made[0]]
    assert page["next"] is None


def test_a_call_may_wait(world: World) -> None:
    headers = {"Prefer": "respond-async, wait=1"}
    prediction = world.post(f"{OF_MODEL}/predictions", {"input": INPUT}, headers=headers).json()
    assert prediction["status"] == "starting"


def test_a_film_that_is_not_finished_in_time_is_cancelled(world: World, engine: Engine) -> None:
    body = {"input": {**INPUT, "duration": 60}}
    prediction = world.post(f"{OF_MODEL}/predictions", body, headers={"Cancel-After": "1m30s"}).json()
    other = world.post(f"{OF_MODEL}/predictions", body).json()
    with Session(engine) as session:
        assert claim(session, "nobody", ["synthetic"]) is not None
        job = session.get_one(Job, prediction["id"])
        assert job.cancel_at is not None
        assert (job.cancel_at - job.created_at).total_seconds() == 90
        session.execute(update(Job).where(Job.id == job.id).values(cancel_at=job.created_at))
        session.commit()
    assert world.get(f"{PREDICTIONS}/{prediction['id']}").json()["status"] == "processing"
    assert run_round()["past_cancel_times"] == 1
    assert run_round()["past_cancel_times"] == 0
    assert world.get(f"{PREDICTIONS}/{prediction['id']}").json()["status"] == "canceled"
    assert world.get(f"{PREDICTIONS}/{other['id']}").json()["status"] == "starting"


def test_a_wrong_time_is_refused(world: World) -> None:
    for text in ("soon", "0s"):
        refused = world.post(f"{OF_MODEL}/predictions", {"input": INPUT}, headers={"Cancel-After": text})
        assert (refused.status_code, refused.json()["field"]) == (422, "Cancel-After")


def hooks(engine: Engine) -> list[dict[str, Any]]:
    """Return the bodies that a courier would send now, the oldest first."""
    with Session(engine) as session:
        limits = {"lease_seconds": 60, "free": 20, "account_max": 20, "account_in_flight": {}}
        claimed = claim_deliveries(session, lease="lease", **limits)
        session.commit()
    assert {each.url for each in claimed} <= {"https://example.com/hook"}
    return [json.loads(each.body) for each in sorted(claimed, key=lambda each: each.created_at)]


def test_webhooks_have_the_prediction_from_its_start_to_its_end(world: World, engine: Engine) -> None:
    body = {"input": INPUT, "webhook": "https://example.com/hook"}
    created = world.post(f"{OF_MODEL}/predictions", body).json()
    assert hooks(engine) == []
    world.work()
    started, ended = hooks(engine)
    assert (started["id"], started["status"], started["output"]) == (created["id"], "processing", None)
    assert "Price: " in started["logs"]
    polled = world.get(f"{PREDICTIONS}/{created['id']}").json()
    assert polled["output"].startswith("http")
    assert (ended["status"], ended["output"][:4]) == ("succeeded", "http")
    # A link is signed anew each time.
    assert {**ended, "output": None} == {**polled, "output": None}


@pytest.mark.parametrize(
    ("events", "statuses"),
    [
        (["start"], ["processing"]),
        (["output"], ["succeeded"]),
        (["completed"], ["succeeded"]),
        (["start", "output", "completed"], ["processing", "succeeded"]),
        ([], []),
    ],
)
def test_webhooks_are_filtered_by_events(world: World, engine: Engine, events: list[str], statuses: list[str]) -> None:
    hook = {"webhook": "https://example.com/hook", "webhook_events_filter": events}
    world.post(f"{OF_MODEL}/predictions", {"input": INPUT, **hook})
    world.work()
    assert [each["status"] for each in hooks(engine)] == statuses


@pytest.mark.parametrize("events", [None, ["completed"], ["start"]])
def test_the_webhook_of_several_films_has_their_prediction(
    world: World, engine: Engine, events: list[str] | None
) -> None:
    hook = {"webhook": "https://example.com/hook"} | ({} if events is None else {"webhook_events_filter": events})
    created = world.post(f"{OF_MODEL}/predictions", {"input": {**INPUT, "num_outputs": 2}, **hook}).json()
    assert world.get(f"{PREDICTIONS}/{created['id']}").headers["retry-after"]
    world.work()
    if events == ["start"]:
        assert hooks(engine) == []
        return
    [ended] = hooks(engine)
    assert (ended["id"], ended["status"], len(ended["output"])) == (created["id"], "succeeded", 2)
    assert all(url.startswith("http") for url in ended["output"])


def test_the_end_of_a_cancelled_prediction_is_told_once_and_only_where_it_was_asked_for(
    world: World, engine: Engine
) -> None:
    for events in (["output"], ["completed"], ["nothing"]):
        hook = {"webhook": "https://example.com/hook", "webhook_events_filter": events}
        answer = world.post(f"{OF_MODEL}/predictions", {"input": INPUT, **hook})
        if events == ["nothing"]:
            assert (answer.status_code, answer.json()["field"]) == (422, "webhook_events_filter")
            alone = {"input": INPUT, "webhook_events_filter": events}
            assert world.post(f"{OF_MODEL}/predictions", alone).status_code == 422
        else:
            world.post(f"{PREDICTIONS}/{answer.json()['id']}/cancel")
    assert [each["status"] for each in hooks(engine)] == ["canceled"]


def test_other_callbacks_get_our_event_at_the_end_only(world: World, engine: Engine) -> None:
    order = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    world.post("/v1/videos", {**order, "callback_url": "https://example.com/hook"})
    world.work()
    [ended] = hooks(engine)
    assert (ended["object"], ended["type"]) == ("event", "video.completed")


def test_models_name_their_inputs(world: World) -> None:
    model = world.get(OF_MODEL).json()
    assert model in world.get("/replicate/v1/models").json()["results"]
    version = model["latest_version"]
    assert world.get(f"{OF_MODEL}/versions").json()["results"] == [version]
    assert world.get(f"{OF_MODEL}/versions/synthetic").json() == version
    assert world.get(f"{OF_MODEL}/versions/other").status_code == 404
    assert version["openapi_schema"]["components"]["schemas"]["Input"]["required"] == ["prompt"]


def test_the_secret_of_webhooks_is_the_same_until_it_is_rotated(world: World) -> None:
    first, second = (world.get("/replicate/v1/webhooks/default/secret").json()["key"] for _ in range(2))
    assert first == second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == hashlib.sha256().digest_size
    rotated = world.post("/v1/webhook_callback_secret/rotate", {}).json()["signing_secret"]
    assert not hmac.compare_digest(first, rotated)
    assert world.get("/replicate/v1/webhooks/default/secret").json() == {"key": rotated}


def test_a_call_that_may_not_wait_is_answered_with_its_prediction(world: World) -> None:
    with ExitStack() as stack:
        for _ in range(STREAMS_EACH_MAX):
            stack.enter_context(stream_slot(world.alice_id))
        answer = world.post(f"{OF_MODEL}/predictions", {"input": INPUT}, headers={"Prefer": "wait"})
    assert (answer.status_code, answer.json()["status"]) == (201, "starting"), answer.text


def test_a_prompt_may_end_with_the_path_of_a_file(world: World) -> None:
    prompt = "bars /replicate/v1/files/asset_x"
    prediction = world.post(PREDICTIONS, {"version": "synthetic", "input": {**INPUT, "prompt": prompt}}).json()
    assert prediction["input"]["prompt"] == prompt


def test_a_form_is_refused(world: World) -> None:
    refused = world.post(PREDICTIONS, data={"prompt": "bars"}, files={"image": PICTURE.read_bytes()})
    assert refused.status_code == 415, refused.text
