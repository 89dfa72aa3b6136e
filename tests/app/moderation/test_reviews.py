"""Orders of every interface that wait for a moderator: each is shown in its own words, then allowed or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.audit_log.actor import Actor
from app.db import transaction
from app.events.tables import Event
from app.jobs.review import decide_review, open_review_of
from app.jobs.tables import Job, ReceiptRow
from app.moderation.outcomes import Decision
from app.moderation.tables import ModerationOutcome
from app.settings import get_settings
from app.wallet.tables import Hold
from tests.api_client import World
from tests.app.moderation.servers import ModerationServer, moderation_server

pytestmark = pytest.mark.xdist_group("service")

MODERATOR = Actor("mo", "key_mo", frozenset({"moderator"}))
REVIEWED = "undress the woman"
FILM: dict[str, Any] = {"model": "synthetic", "prompt": REVIEWED, "seconds": 1, "resolution": "480P"}
TASK: dict[str, Any] = {
    "model": "synthetic",
    "input": {"prompt": REVIEWED},
    "parameters": {"duration": 1, "size": "832*480"},
}
CALL = {"prompt": REVIEWED, "n": 1, "duration": 1, "resolution": "832x480"}
DASHSCOPE = "/api/v1/services/aigc/video-generation/video-synthesis"
MCP = {"Accept": "application/json, text/event-stream"}

PolicyWriter = Callable[[str], None]


@pytest.fixture
def policy(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what sets the operator's policy of this process; the rules of nudification are reviewed at first."""
    files = iter(range(100))

    def write(content: str) -> None:
        file = tmp_path / f"policy-{next(files)}.toml"
        file.write_text(content)
        monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
        get_settings.cache_clear()

    write("[rules]\nreview = ['nudification']\n")
    yield write
    get_settings.cache_clear()


def decide(job_id: str, decision: Decision) -> None:
    with transaction() as session:
        review = open_review_of(session, job_id)
        assert review is not None
        decide_review(session, MODERATOR, review.id, decision, reason="Seen.")


def hold_of(session: Session, job_id: str) -> str:
    return session.scalars(select(Hold.state).where(Hold.job_id == job_id)).one()


def mcp(world: World, name: str, arguments: dict[str, Any]) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    result = world.post("/mcp", call, headers=MCP).json()["result"]
    assert not result.get("isError"), result
    return result["structuredContent"]


def gateway(world: World, path: str, body: Any) -> Any:
    return world.post(f"/v4/ai/video-model{path}", body, headers={"ai-model-id": "cinemeter/synthetic"}).json()


def order_native(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    job_id = world.post("/v1/videos", FILM).json()["id"]
    return job_id, lambda: _native(world.get(f"/v1/videos/{job_id}").json())


def order_test(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    job_id = world.post("/v1/videos", FILM, key=world.test_key).json()["id"]
    return job_id, lambda: _native(world.get(f"/v1/videos/{job_id}", key=world.test_key).json())


def _native(video: dict[str, Any]) -> tuple[str, Any]:
    return video.get("stage") or video["status"], video.get("error")


def order_openai(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    """The shape of OpenAI's clients: a form, `size`, and the status alone."""
    form = {"model": "synthetic", "prompt": REVIEWED, "seconds": "1", "size": "832x480"}
    headers = {"Authorization": f"Bearer {world.alice}"}
    job_id = world.app.post("/v1/videos", data=form, headers=headers).json()["id"]

    def poll() -> tuple[str, Any]:
        video = world.get(f"/v1/videos/{job_id}").json()
        return video["status"], video["error"]

    return job_id, poll


def order_dashscope(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    task = world.post(DASHSCOPE, TASK, headers={"X-DashScope-Async": "enable"}).json()["output"]["task_id"]

    def poll() -> tuple[str, Any]:
        output = world.get(f"/api/v1/tasks/{task}").json()["output"]
        return output["task_status"], output.get("code")

    with transaction() as session:
        return str(session.scalars(select(Job.id)).one()), poll


def order_replicate(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    path = "/replicate/v1/models/cinemeter/synthetic/predictions"
    made = world.post(path, {"input": {"prompt": REVIEWED, "seconds": 1, "resolution": "480P"}}).json()

    def poll() -> tuple[str, Any]:
        prediction = world.get(f"/replicate/v1/predictions/{made['id']}").json()
        return prediction["status"], prediction["error"]

    with transaction() as session:
        return str(session.scalars(select(Job.id)).one()), poll


def order_gateway(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    started = gateway(world, "/start", CALL)

    def poll() -> tuple[str, Any]:
        answer = gateway(world, "/status", {"operation": started["operation"]})
        return answer["status"], answer.get("error")

    with transaction() as session:
        return str(session.scalars(select(Job.id)).one()), poll


def order_mcp(world: World) -> tuple[str, Callable[[], tuple[str, Any]]]:
    quote = mcp(world, "quote", {"order": FILM})
    job_id = mcp(world, "generate", {"quote_id": quote["id"], "confirm_total": quote["total"]})["id"]
    return job_id, lambda: _native(mcp(world, "status", {"video_id": job_id}))


Order = Callable[[World], tuple[str, Callable[[], tuple[str, Any]]]]
# How each interface orders, and its words for a film that waits for a review, that was made, and that was refused.
INTERFACES: dict[str, tuple[Order, str, str, str]] = {
    "native": (order_native, "moderating", "completed", "failed"),
    "test": (order_test, "moderating", "completed", "failed"),
    "openai": (order_openai, "queued", "completed", "failed"),
    "dashscope": (order_dashscope, "PENDING", "SUCCEEDED", "FAILED"),
    "replicate": (order_replicate, "starting", "succeeded", "failed"),
    "gateway": (order_gateway, "pending", "completed", "error"),
    "mcp": (order_mcp, "moderating", "completed", "failed"),
}


@pytest.mark.parametrize("decision", [Decision.ALLOW, Decision.REFUSE])
@pytest.mark.parametrize("interface", INTERFACES)
def test_each_interface_shows_a_review_and_its_end(
    world: World, policy: PolicyWriter, interface: str, decision: Decision
) -> None:
    order, waiting, completed, failed = INTERFACES[interface]
    job_id, poll = order(world)
    assert poll()[0] == waiting
    world.work()
    assert poll()[0] == waiting
    with transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.stage, job.checked_by is not None) == ("moderating", True)
        assert hold_of(session, job_id) == "held"
    decide(job_id, decision)
    world.work()
    state, error = poll()
    assert state == (completed if decision is Decision.ALLOW else failed)
    with transaction() as session:
        job = session.get_one(Job, job_id)
        ends = [each for each in session.scalars(select(Event.type).where(Event.job_id == job_id)) if "ed" in each]
        ends = [each for each in ends if each not in ("video.created", "video.started")]
        hold = hold_of(session, job_id)
        total = session.get_one(ReceiptRow, job_id).total
        has_film, free = job.film_key is not None, total == 0
        assert ends == [f"video.{job.state}"]
    if decision is Decision.REFUSE:
        assert (hold, has_film, free) == ("released", False, True)
        assert error is not None
        assert "undress" not in str(error)
        assert "refused" in str(error) or error == "DataInspectionFailed"
        key = world.test_key if interface == "test" else None
        content = world.get(f"/v1/videos/{job_id}/content", key=key)
        assert content.status_code in (404, 409, 410), content.text
    else:
        # The hold of a test film is of nothing, and is released.
        assert (hold, has_film) == ("released" if interface == "test" else "captured", True)


def test_a_review_is_stated_with_its_deadline_and_without_an_eta(world: World, policy: PolicyWriter) -> None:
    created = world.post("/v1/videos", {**FILM, "metadata": {"a": "b"}}).json()
    polled = world.get(f"/v1/videos/{created['id']}")
    for video in (created, polled.json(), world.get("/v1/videos").json()["data"][0]):
        assert (video["status"], video["stage"], video["eta"], video["queue_position"]) == (
            "queued", "moderating", None, None,
        )  # fmt: skip
        assert video["review_due_at"] - video["created_at"] == 24 * 3600
    assert not {"undress", "woman"} & set(str(polled.headers).split())
    # A quote is no order: it is made, and its order waits.
    quoted = world.post("/v1/videos/quotes", FILM)
    assert quoted.status_code == 200, quoted.text
    ordered = world.post("/v1/videos", {**FILM, "quote_id": quoted.json()["id"]}).json()
    assert ordered["stage"] == "moderating"
    # The call is recognised when it is repeated.
    headers = {"Idempotency-Key": "once"}
    first, again = (world.post("/v1/videos", FILM, headers=headers).json() for _ in range(2))
    assert first["id"] == again["id"]
    with transaction() as session:
        assert session.execute(text("SELECT count(*) FROM moderation_outcomes")).scalar_one() == 3


def test_a_strict_account_gets_a_refusal_for_what_others_have_reviewed(world: World, policy: PolicyWriter) -> None:
    with transaction() as session:
        session.execute(update(Account).where(Account.id == world.alice_id).values(moderation_level="strict"))
    assert world.post("/v1/videos", FILM).json()["code"] == "content_refused"
    assert world.post("/v1/videos", FILM, key=world.bob).json()["stage"] == "moderating"


def server_policy(server: ModerationServer, path: str, *lines: str) -> str:
    http = ["[http]", f"url = {server.url(path)!r}", "timeout_seconds = 10", *lines]
    return "\n".join(http)


def test_categories_and_scores_of_a_server_call_for_a_review(world: World, policy: PolicyWriter) -> None:
    plain = {**FILM, "prompt": "bars"}
    with moderation_server() as server:

        def outcome(*lines: str, path: str = "/flagged", key: str | None = None) -> str:
            policy(server_policy(server, path, *lines))
            answer = world.post("/v1/videos", plain, key=key).json()
            return str(answer.get("code") or answer["stage"])

        assert outcome() == "content_refused"
        assert outcome("review = ['violence', 'violence/graphic']") == "moderating"
        # One category that is refused outweighs one that is reviewed.
        assert outcome("review = ['violence/graphic']") == "content_refused"
        assert outcome("categories = ['violence']", "review = ['violence']") == "moderating"
        # Scores: violence 0.7, violence/graphic 0.9, hate 0.1.
        assert outcome("review_scores = [0.5, 0.95]") == "moderating"
        assert outcome("review_scores = [0.5, 0.8]") == "content_refused"
        assert outcome("review_scores = [0.92, 0.95]") == "waiting"
        assert outcome("review_scores = [0.005, 0.5]", path="/clean") == "moderating"
        assert outcome("on_failure = 'review'", path="/error") == "moderating"
        with transaction() as session:
            session.execute(update(Account).where(Account.id == world.bob_id).values(moderation_level="strict"))
        strict = "[strict]\ncategories = ['violence']"
        assert outcome("categories = ['hate']", strict) == "waiting"
        assert outcome("categories = ['hate']", strict, key=world.bob) == "content_refused"
        assert outcome("review_scores = [0.5, 0.95]", key=world.bob) == "content_refused"
    with transaction() as session:
        reviews = session.scalars(select(ModerationOutcome).where(ModerationOutcome.outcome == "review")).all()
        assert {(each.checker, each.category, each.score) for each in reviews} == {
            ("http", "violence/graphic", 0.9),
            ("http", "violence", 0.7),
            ("http", "violence", 0.01),
            ("http", "unchecked", 0.0),
        }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "says nothing"),
        ("[rules]\nreview = ['minors']", "never reviewed"),
        ("[rules]\nreview = ['minor-undress']", "never reviewed"),
        ("[rules]\nreview = ['other']", "there is no rule"),
        ("[review]\nhours = 0", "review.hours"),
        ("[review]\nat_deadline = 'wait'", "review.at_deadline"),
        ("[http]\nurl = 'http://h'\nreview_scores = [0.8, 0.4]", "scores must rise"),
    ],
)
def test_a_policy_that_is_none_stops_the_process(policy: PolicyWriter, content: str, fault: str) -> None:
    from app.moderation.policy import moderation_policy

    policy(content)
    with pytest.raises(RuntimeError, match=fault):
        moderation_policy()
