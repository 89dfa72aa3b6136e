"""Orders of every interface whose words are refused: nothing is written or held, and each is answered in its shape."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from app.api.application import create_app
from app.db import transaction
from app.jobs.tables import Job
from app.metrics import REGISTRY
from app.moderation.rules import shipped_rules
from app.moderation.tables import ModerationOutcome
from app.settings import get_settings
from tests.api_client import World
from tests.app.moderation.servers import ModerationServer, moderation_server
from tests.session_guard import watch

pytestmark = pytest.mark.xdist_group("service")

BAD = "nude child"
FILM: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
SHOTS: dict[str, Any] = {key: value for key, value in FILM.items() if key not in ("prompt", "seconds")}
TASK: dict[str, Any] = {
    "model": "synthetic",
    "input": {"prompt": BAD},
    "parameters": {"duration": 1, "size": "832*480"},
}
# What an order writes, or moves.
TABLES = (
    "jobs",
    "job_groups",
    "quotes",
    "units",
    "holds",
    "transfers",
    "events",
    "assets",
    "submissions",
    "reservations",
)


def counts() -> dict[str, int]:
    with transaction() as session:
        known = set(session.scalars(text("SELECT relname FROM pg_class WHERE relkind = 'r'")))
        return {
            table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in TABLES
            if table in known
        }


def answers_of(stage: str) -> dict[str, float]:
    """What this process has counted of the answers of the operator's server at a stage, by result."""
    labels = {"stage": stage, "checker": "http"}
    return {
        result: REGISTRY.get_sample_value("cinemeter_moderation_checks_total", {**labels, "result": result}) or 0.0
        for result in ("answered", "timeout", "failed")
    }


def wallets() -> str:
    with transaction() as session:
        # A film that costs nothing has a receipt with a number all the same.
        money = "to_jsonb(w) - ARRAY['live_receipts', 'test_receipts']"
        return str(session.execute(text(f"SELECT jsonb_agg({money} ORDER BY w) FROM wallets AS w")).scalar_one())


def outcomes() -> list[ModerationOutcome]:
    with transaction() as session:
        return list(session.scalars(select(ModerationOutcome).order_by(ModerationOutcome.first_at)))


def native(answer: Any) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (422, "content_refused"), answer.text
    assert (body["stage"], body["category"]) in {("prompt", "minors"), ("prompt", "nudification")}
    assert not {"nude", "child"} & set(answer.text.lower().split())
    return body


def mcp(world: World, name: str, arguments: dict[str, Any]) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    return world.post("/mcp", call, headers={"Accept": "application/json, text/event-stream"}).json()["result"]


def test_every_interface_refuses_in_its_own_shape_and_writes_nothing(world: World) -> None:
    before = counts()
    wallet = wallets()
    body = native(world.post("/v1/videos", {**FILM, "prompt": BAD}))
    assert body["error"]["code"] == "content_refused"
    native(world.post("/v1/videos", {**FILM, "prompt": BAD}, key=world.test_key))
    native(world.post("/v1/videos", {**FILM, "prompt": BAD, "n": 3}))
    native(world.post("/v1/videos/sync", {**FILM, "prompt": BAD}))
    native(world.post("/v1/videos/quotes", {**FILM, "prompt": BAD}))
    native(world.post("/v1/videos", {**FILM, "negative_prompt": "child porn"}))
    native(world.post("/v1/videos", {**FILM, "prompt": "a woman", "negative_prompt": "clothing"}))
    shots = [{"prompt": "bars", "seconds": 1}, {"prompt": BAD, "seconds": 1}]
    native(world.post("/v1/videos", {**SHOTS, "shots": shots}))
    native(world.post("/v1/videos", {**SHOTS, "prompt": "nude", "shots": [{"prompt": "a child", "seconds": 1}]}))
    split = [{"prompt": "a child stands", "seconds": 1}, {"prompt": "naked", "seconds": 1}]
    native(world.post("/v1/videos", {**SHOTS, "shots": split}))
    picture = {"first_frame": "https://example.invalid/a.png"}
    native(world.post("/v1/videos", {**FILM, "prompt": "remove the clothes", **picture}))
    files = {"first_frame": ("a.png", b"no picture", "image/png")}
    headers = {"Authorization": f"Bearer {world.alice}"}
    native(world.app.post("/v1/videos", data={**FILM, "prompt": "undress"}, files=files, headers=headers))
    task = world.post(
        "/api/v1/services/aigc/video-generation/video-synthesis", TASK, headers={"X-DashScope-Async": "enable"}
    )
    assert (task.status_code, task.json()["code"]) == (400, "DataInspectionFailed")
    prediction = world.post("/replicate/v1/models/cinemeter/synthetic/predictions", {"input": {"prompt": BAD}})
    assert (prediction.status_code, prediction.json()["code"]) == (422, "content_refused")
    assert "detail" in prediction.json()
    call = {"prompt": BAD, "n": 1, "duration": 1, "resolution": "832x480"}
    gateway = world.post("/v4/ai/video-model/start", call, headers={"ai-model-id": "cinemeter/synthetic"})
    assert (gateway.status_code, gateway.json()["error"]["code"]) == (422, "content_refused"), gateway.text
    tool = mcp(world, "quote", {"order": {**FILM, "prompt": BAD}})
    assert tool["isError"]
    assert "content_refused" in tool["content"][0]["text"]
    assert counts() == before
    assert wallets() == wallet
    rows = outcomes()
    assert {row.interface for row in rows} == {"native", "dashscope", "replicate", "gateway", "mcp"}
    assert {row.outcome for row in rows} == {"refuse"}
    assert all(row.version == shipped_rules().version and row.job_id is None for row in rows)
    # Equal refusals of a day are one row.
    again = [row for row in rows if (row.interface, row.test, row.rule) == ("native", False, "minor-nudity")]
    assert [row.times for row in again] == [7]


def test_films_made_from_others_are_checked_too(world: World) -> None:
    storyboard = {**SHOTS, "shots": [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 1}]}
    orders = (FILM, storyboard, {**FILM, "prompt": "a child"})
    single, double, child = (world.post("/v1/videos", order).json()["id"] for order in orders)
    world.work()
    before = counts()
    native(world.post(f"/v1/videos/{single}/remix", {"prompt": BAD}))
    native(world.post(f"/v1/videos/{double}/retakes", {"shot": 0, "prompt": BAD}))
    native(world.post(f"/v1/videos/{double}/retakes", {"shot": 0, "negative_prompt": "child porn"}))
    native(world.post("/v1/videos/extensions", {"video": single, "prompt": "remove the clothes", "seconds": 1}))
    native(world.post("/v1/videos/edits", {"video": single, "prompt": "undress"}))
    # With the words of the film before.
    native(world.post("/v1/videos/extensions", {"video": child, "prompt": "porn", "seconds": 1}))
    native(world.post("/v1/videos/edits", {"video": child, "prompt": "a porn film"}))
    assert counts() == before
    with transaction() as session:
        assert {job.checked_by for job in session.scalars(select(Job))} == {f"rules {shipped_rules().version}"}


def test_an_order_of_too_many_words_is_refused_and_an_uploaded_sound_is_no_picture(world: World) -> None:
    before = counts()
    shots = [{"prompt": "n " * 2500, "seconds": 1}] * 30
    long = world.post("/v1/videos", {**SHOTS, "shots": shots})
    assert (long.status_code, long.json()["code"]) == (422, "invalid_request"), long.text
    assert counts() == before
    files = {"audio": ("a.wav", b"no sound", "audio/wav")}
    headers = {"Authorization": f"Bearer {world.alice}"}
    answer = world.app.post("/v1/videos", data={**FILM, "prompt": "remove the clothes"}, files=files, headers=headers)
    assert answer.json()["code"] != "content_refused", answer.text


def test_a_repeated_call_gets_its_job_whatever_the_rules_say_by_now(world: World) -> None:
    """The words of a call that was accepted are not refused when it is repeated after an upgrade."""
    headers = {"Idempotency-Key": "once"}
    first = world.post("/v1/videos", {**FILM, "prompt": "the old words"}, headers=headers).json()["id"]
    rules = shipped_rules()
    words = rules._lexicon._words
    words["words"], words["oid"] = {"minor_sexual"}, {"minor_sexual"}
    try:
        again = world.post("/v1/videos", {**FILM, "prompt": "the old words"}, headers=headers)
        assert again.json()["id"] == first
        native(world.post("/v1/videos", {**FILM, "prompt": "the old words"}))
    finally:
        del words["words"], words["oid"]
    assert outcomes()[0].times == 1


PolicyWriter = Callable[..., ModerationServer]


@pytest.fixture
def policy(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what writes a policy for a path of the server, and returns the server."""
    with moderation_server() as server:

        def write(path: str, **fields: Any) -> ModerationServer:
            # As long as may be: a busy machine is no failure of the server.
            fields = {"timeout_seconds": 10, **fields}
            lines = [
                f"{name} = {str(value).lower() if value is True else repr(value)}" for name, value in fields.items()
            ]
            file = tmp_path / f"policy{len(server.requests)}{path.replace('/', '-')}-{len(lines)}.toml"
            file.write_text("\n".join(["[http]", f"url = {server.url(path)!r}", *lines]))
            monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
            get_settings.cache_clear()
            return server

        yield write
    get_settings.cache_clear()


def test_the_operators_server_is_asked_and_its_refusal_has_its_category(world: World, policy: PolicyWriter) -> None:
    server, answers = policy("/clean", key="secret", model="moderator-1"), answers_of("prompt")
    accepted = world.post("/v1/videos", {**FILM, "negative_prompt": "rain"})
    assert accepted.status_code == 200
    assert server.requests == [("Bearer secret", {"input": "bars", "model": "moderator-1"})]
    with transaction() as session:
        job = session.get_one(Job, accepted.json()["id"])
        assert job.checked_by == f"rules {shipped_rules().version}, http moderator-1"
    answers["answered"] += 1
    assert answers_of("prompt") == answers
    # What the rules refuse is not sent.
    native(world.post("/v1/videos", {**FILM, "prompt": BAD}))
    assert len(server.requests) == 1
    before = counts()
    policy("/flagged")
    refused = world.post("/v1/videos", FILM)
    assert (refused.status_code, refused.json()["code"], refused.json()["category"]) == (
        422, "content_refused", "violence/graphic",
    )  # fmt: skip
    assert counts() == before
    # Only the operator's categories count.
    policy("/flagged", categories=["hate"])
    assert world.post("/v1/videos", FILM).status_code == 200


@pytest.mark.parametrize("path", ["/hang", "/error", "/text", "/empty", "/other", "/list"])
def test_a_server_that_fails_leaves_the_decision_to_the_policy(world: World, policy: PolicyWriter, path: str) -> None:
    before, answers = counts(), answers_of("prompt")
    policy(path, timeout_seconds=0.5)
    refused = world.post("/v1/videos", FILM)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable"), refused.text
    assert refused.headers["retry-after"] == "10"
    assert counts() == before
    policy(path, timeout_seconds=0.5, on_failure="open")
    assert world.post("/v1/videos", FILM).status_code == 200
    assert [(row.outcome, row.category) for row in outcomes()] == [("refuse", "unchecked"), ("allow", "unchecked")]
    answers["timeout" if path == "/hang" else "failed"] += 2
    assert answers_of("prompt") == answers


def test_a_dead_server_and_a_policy_that_is_none(
    world: World, policy: PolicyWriter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = policy("/clean")
    file = tmp_path / "dead.toml"
    file.write_text(f"[http]\nurl = 'http://127.0.0.1:1/{server.port}'\n")
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
    get_settings.cache_clear()
    assert world.post("/v1/videos", FILM).json()["code"] == "unavailable"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[http]\nurl = 'http://127.0.0.1'\non_failure = 'perhaps'\n")
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(wrong))
    get_settings.cache_clear()
    with pytest.raises(RuntimeError, match="CINEMETER_MODERATION_POLICY"):
        create_app()


def test_the_server_is_asked_outside_of_any_transaction(world: World, policy: PolicyWriter) -> None:
    policy("/clean")
    with watch() as waits:
        assert world.post("/v1/videos", FILM).status_code == 200
        assert world.post("/v1/videos/quotes", FILM).status_code == 200
    assert waits == []
