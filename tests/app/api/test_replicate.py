"""The Replicate interface: predictions, their files, models and webhooks."""

import base64
import hashlib
import hmac
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.event_stream import STREAMS_EACH_MAX, stream_slot
from app.jobs.tables import Job
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


def test_a_call_may_wait_and_may_say_by_when_it_has_to_start(world: World, engine: Engine) -> None:
    body = {"input": INPUT, "webhook": "https://example.com/hook", "webhook_events_filter": ["start", "completed"]}
    headers = {"Prefer": "respond-async, wait=1", "Cancel-After": "1m30s"}
    prediction = world.post(f"{OF_MODEL}/predictions", body, headers=headers).json()
    assert prediction["status"] == "starting"
    with Session(engine) as session:
        job = session.get(Job, prediction["id"])
        assert job is not None
        assert job.callback_url == "https://example.com/hook"
        assert job.not_after is not None
        assert (job.not_after - job.created_at).total_seconds() == 90
    refused = world.post(f"{OF_MODEL}/predictions", body, headers={"Cancel-After": "soon"})
    assert (refused.status_code, refused.json()["field"]) == (422, "Cancel-After")


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
