"""The AI Gateway interface: one call, start and status, repeated calls, and how the film travels."""

import base64
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.clock import now
from app.db import transaction
from app.jobs.groups import jobs_of
from app.jobs.idempotency import OrderIdentity, identical_job
from app.jobs.submit import submit
from app.jobs.tables import Job
from app.settings import get_settings
from tests.api_client import World
from tests.ledger_simulation import Line, request

CALL: dict[str, Any] = {"prompt": "bars", "n": 1, "resolution": "832x480", "duration": 1, "providerOptions": {}}
PICTURE = Path(__file__).parents[2] / "contracts" / "node" / "frame.png"
_tick = threading.Event()
MODEL = {"ai-model-id": "cinemeter/synthetic"}


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def call(world: World, path: str = "", **change: Any) -> Any:
    headers = {**MODEL, **change.pop("headers", {})}
    return world.post(f"/v4/ai/video-model{path}", {**CALL, **change}, headers=headers)


def status(world: World, operation: Any) -> Any:
    return world.post("/v4/ai/video-model/status", {"operation": operation}).json()


def event_of(answer: Any) -> dict[str, Any]:
    """The one event of a call's answer."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    [data] = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    event: dict[str, Any] = json.loads(data)
    return event


def films() -> list[str]:
    with transaction() as session:
        return list(session.scalars(select(Job.id).order_by(Job.created_at)))


def wait_for_orders(count: int, answer: Future[Any]) -> None:
    """Wait until so many films were ordered, by a call that has no answer yet."""
    for _ in range(1_200):
        assert not answer.done(), answer.result().text[:500]
        if len(films()) >= count:
            return
        _tick.wait(0.05)
    raise AssertionError("the call has not ordered its film in time")


def test_start_and_status_lead_to_the_film_inside_of_the_answer(world: World) -> None:
    started = call(world, "/start", seed=7, fps=1).json()
    assert [each["feature"] for each in started["warnings"]] == ["fps"]
    price = started["providerMetadata"]["cinemeter"]["price"]
    assert status(world, started["operation"])["status"] == "pending"
    world.work()
    ended = status(world, started["operation"])
    assert ended["status"] == "completed"
    assert ended["providerMetadata"]["cinemeter"]["charged"] == price
    [film] = ended["videos"]
    assert (film["type"], film["mediaType"]) == ("base64", "video/mp4")
    assert base64.b64decode(film["data"])[4:8] == b"ftyp"


def test_where_our_address_is_public_the_film_is_a_url(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started = call(world, "/start").json()
    world.work()
    monkeypatch.setenv("CINEMETER_PUBLIC_URL", "https://video.example.com")
    get_settings.cache_clear()
    [film] = status(world, started["operation"])["videos"]
    assert film["type"] == "url"
    path = film["url"].removeprefix("https://video.example.com")
    assert world.app.get(path).content[4:8] == b"ftyp"


def test_one_call_answers_with_the_film_and_a_repeated_one_with_the_same(world: World) -> None:
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(call, world)
        wait_for_orders(1, answer)
        world.work()
        first = event_of(answer.result())
    assert first["type"] == "result"
    assert base64.b64decode(first["videos"][0]["data"])[4:8] == b"ftyp"
    again = event_of(call(world))
    assert again["providerMetadata"]["cinemeter"]["id"] == first["providerMetadata"]["cinemeter"]["id"]
    assert [each["type"] for each in again["warnings"]] == ["other"]
    assert len(films()) == 1


def test_a_call_that_ended_without_a_film_is_no_answer_to_the_next(world: World) -> None:
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(call, world)
        wait_for_orders(1, answer)
        world.post(f"/v1/videos/{films()[0]}/cancel")
        refused = event_of(answer.result())
        assert (refused["type"], refused["errorType"], refused["statusCode"]) == ("error", "failed_dependency", 424)
        assert "cancelled" in refused["message"]
        answer = thread.submit(call, world)
        wait_for_orders(2, answer)
        world.work()
        assert event_of(answer.result())["type"] == "result"


def test_which_groups_answer_a_repeated_call(line: Line) -> None:
    alice = line.open()
    order = OrderIdentity(request(seconds=1, n=2), fingerprint="f", answers_with_film=True, is_retry=True)
    jobs = jobs_of(line.session, str(line.act(lambda: submit(line.session, alice, order)).group_id))

    def answer() -> str | None:
        job = identical_job(line.session, alice, order)
        return None if job is None else job.id

    def change(job: Job, **columns: Any) -> None:
        line.session.execute(update(Job).where(Job.id == job.id).values(**columns))

    line.cancel(alice, jobs[0].id)
    line.wait(minutes=11)
    assert answer() == jobs[0].id
    line.work()
    assert answer() == jobs[0].id
    change(jobs[1], files_removed_at=now(line.session))
    assert answer() is None
    change(jobs[1], files_removed_at=None)
    line.session.commit()
    line.wait(minutes=11)
    assert answer() is None


def test_a_cancelled_film_is_cancelled_and_an_operation_must_be_one(world: World) -> None:
    operation = call(world, "/start").json()["operation"]
    world.post(f"/v1/videos/{operation['id']}/cancel")
    assert status(world, operation)["status"] == "cancelled"
    refused = world.post("/v4/ai/video-model/status", {"operation": "video"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "operation")


def test_the_clients_first_frame_may_come_under_both_of_its_names(world: World) -> None:
    data = base64.b64encode(PICTURE.read_bytes()).decode()
    image = {"type": "file", "mediaType": "image/png", "data": data}
    frames = [{"frameType": "first_frame", "image": image}]
    started = call(world, "/start", image=image, frameImages=frames).json()
    video = world.get(f"/v1/videos/{started['operation']['id']}").json()
    assert video["resolved"]["mode"] == "i2v"
    other = {"type": "url", "url": "https://example.com/a.png"}
    refused = call(world, "/start", image=other, frameImages=frames)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "image")


def test_the_models_are_listed(world: World) -> None:
    models = world.get("/v4/ai/config").json()["models"]
    assert {each["id"] for each in models} >= {"cinemeter/demo", "cinemeter/synthetic"}
    assert {each["modelType"] for each in models} == {"video"}


def test_a_deleted_film_is_no_answer_to_the_next_call(world: World) -> None:
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(call, world)
        wait_for_orders(1, answer)
        world.work()
        assert event_of(answer.result())["type"] == "result"
        assert world.delete(f"/v1/videos/{films()[0]}").status_code < 300
        answer = thread.submit(call, world)
        wait_for_orders(2, answer)
        world.work()
        assert event_of(answer.result())["providerMetadata"]["cinemeter"]["id"] == films()[1]


def test_a_form_is_refused(world: World) -> None:
    refused = world.post(
        "/v4/ai/video-model/start", headers=MODEL, data={"prompt": "bars"}, files={"image": PICTURE.read_bytes()}
    )
    assert refused.status_code == 415, refused.text
