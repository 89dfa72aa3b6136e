"""The admin interface of moderation: what waits, one order with its words, decisions, files, an account's history."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.accounts.keys import issue_key
from app.accounts.tables import Account
from app.audit_log.tables import AuditEntry
from app.db import transaction
from app.reports.audit import audit_books
from app.settings import get_settings
from tests.api_client import World

pytestmark = pytest.mark.xdist_group("service")

FILM: dict[str, Any] = {
    "model": "synthetic", "prompt": "undress the woman", "negative_prompt": "rain", "seconds": 1, "resolution": "480P",
}  # fmt: skip


@pytest.fixture
def keys(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Admin keys by their one role, of a service that reviews the rules of nudification."""
    file = tmp_path / "policy.toml"
    file.write_text("[rules]\nreview = ['nudification']\n")
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
    get_settings.cache_clear()
    with transaction() as session:
        by_role = {
            role: issue_key(session, world.bob_id, scopes=["admin"], roles=[role])[1]
            for role in ("moderator", "operator", "pricing_author")
        }
    yield by_role
    get_settings.cache_clear()


def acts(subject: str) -> list[str]:
    with transaction() as session:
        return list(session.scalars(select(AuditEntry.act).where(AuditEntry.subject == subject)))


def test_a_moderator_lists_reads_and_decides(world: World, keys: dict[str, str]) -> None:
    films = [world.post("/v1/videos", FILM).json()["id"] for _ in range(3)]
    mo = keys["moderator"]
    first = world.get("/v1/admin/moderation?limit=2", key=mo).json()
    assert ([each["video"] for each in first["data"]], first["has_more"]) == (films[:2], True)
    rest = world.get(f"/v1/admin/moderation?after={first['last_id']}&stage=prompt", key=mo).json()
    assert [each["video"] for each in rest["data"]] == films[2:]
    assert world.get("/v1/admin/moderation?stage=output", key=mo).json()["data"] == []
    assert world.get(f"/v1/admin/moderation?account={world.bob_id}", key=mo).json()["data"] == []
    row = first["data"][0]
    assert (row["account"], row["interface"], row["category"], row["score"], row["at_deadline"]) == (
        world.alice_id, "native", "nudification", 1.0, "refuse",
    )  # fmt: skip
    path = f"/v1/admin/moderation/{row['id']}"
    review = world.get(path, key=mo).json()
    assert review["shots"] == [{"prompt": FILM["prompt"], "negative_prompt": "rain"}]
    assert (review["files"], review["status"]) == ([], "queued")
    assert world.post(f"{path}/files/0", key=mo).status_code == 404
    decided = world.post(f"{path}/decision", {"decision": "allow", "reason": "A sauna advert"}, key=mo)
    assert (decided.status_code, decided.json()["decision"]) == (200, "allow"), decided.text
    again = world.post(f"{path}/decision", {"decision": "refuse", "reason": "No"}, key=keys["operator"])
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    second = f"/v1/admin/moderation/{first['data'][1]['id']}"
    world.post(f"{second}/decision", {"decision": "refuse", "reason": "Against the rules"}, key=keys["operator"])
    world.work()
    assert [world.get(f"/v1/videos/{film}").json()["status"] for film in films] == ["completed", "failed", "queued"]
    assert acts(row["id"]) == ["review.viewed", "review.allowed"]
    history = world.get(f"/v1/admin/accounts/{world.alice_id}/moderation", key=mo).json()["data"]
    assert [each["decision"] for each in history] == [None, "refuse", "allow"]


def test_orders_that_are_alike_are_decided_in_one_call_that_can_be_repeated(world: World, keys: dict[str, str]) -> None:
    mo, path = keys["moderator"], "/v1/admin/moderation"
    group = world.post("/v1/videos", {**FILM, "n": 3}).json()["group"]
    films = [each["id"] for each in world.get(f"/v1/videos/groups/{group}").json()["videos"]]
    films.append(world.post("/v1/videos", FILM).json()["id"])
    others = [
        world.post("/v1/videos", {**FILM, "prompt": "undress the man"}),
        world.post("/v1/videos", FILM, key=world.bob),
    ]
    reviews = {each["video"]: each["id"] for each in world.get(path, key=mo).json()["data"]}
    ids = [reviews[film] for film in films]
    assert world.get(f"{path}/{ids[1]}", key=mo).json()["alike"][-1] == ids[3]
    assert set(world.get(f"{path}/{ids[1]}", key=mo).json()["alike"]) == {ids[0], *ids[2:]}
    body = {"reviews": ids, "decision": "refuse", "reason": "Against the rules"}
    # Somebody who reads one of them has not seen what other words, or another account, ask for.
    for other in others:
        wrong = {**body, "reviews": [*ids, reviews[other.json()["id"]]]}
        answer = world.post(f"{path}/decisions", wrong, key=mo)
        assert (answer.status_code, answer.json()["field"]) == (422, "reviews"), answer.text
    for wrong in ({**body, "reviews": []}, {**body, "reviews": ids * 20}, {**body, "reason": " "}):
        assert world.post(f"{path}/decisions", wrong, key=mo).status_code == 422
    assert world.post(f"{path}/decisions", {**body, "reviews": [*ids, "moderation_none"]}, key=mo).status_code == 404
    assert world.post(f"{path}/decisions", body, key=keys["pricing_author"]).status_code == 403
    assert [each["decision"] for each in outcomes_of(world, mo)] == [None] * 5
    world.post(f"{path}/{ids[2]}/decision", {"decision": "allow", "reason": "A sauna advert"}, key=keys["operator"])
    for are_new in ([True, True, False, True], [False] * 4):
        data = world.post(f"{path}/decisions", body, key=mo).json()["data"]
        assert [each["id"] for each in data] == ids
        assert [each["is_new"] for each in data] == are_new
        assert [each["decision"] for each in data] == ["refuse", "refuse", "allow", "refuse"]
    assert [acts(each)[-1] for each in ids] == ["review.refused", "review.refused", "review.allowed", "review.refused"]
    world.work()
    statuses = [world.get(f"/v1/videos/{film}").json()["status"] for film in films]
    assert statuses == ["failed", "failed", "completed", "failed"]
    with transaction() as session:
        assert audit_books(session) == []


def outcomes_of(world: World, key: str) -> list[dict[str, Any]]:
    """What moderation knows of the account of the orders."""
    return world.get(f"/v1/admin/accounts/{world.alice_id}/moderation", key=key).json()["data"]  # type: ignore[no-any-return]


def test_each_verb_needs_its_role(world: World, keys: dict[str, str]) -> None:
    film = world.post("/v1/videos", FILM).json()["id"]
    author = keys["pricing_author"]
    row = world.get("/v1/admin/moderation", key=author).json()["data"][0]
    path, account = f"/v1/admin/moderation/{row['id']}", f"/v1/admin/accounts/{world.alice_id}"
    decision = {"decision": "allow", "reason": "x"}
    for answer in (
        world.get(path, key=author),
        world.post(f"{path}/decision", decision, key=author),
        world.post(f"{path}/files/0", key=author),
        world.post(f"{account}/suspend", {"reason": "x"}, key=author),
        world.post(f"{account}/reinstate", key=keys["moderator"]),
        world.app.put(
            f"{account}/moderation_level",
            json={"moderation_level": "strict"},
            headers={"Authorization": f"Bearer {keys['moderator']}"},
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text
    assert world.get(path).status_code == 403
    assert world.get(f"/v1/videos/{film}").json()["stage"] == "moderating"
    assert acts(row["id"]) == []
    for body in ({"decision": "withdrawn", "reason": "x"}, {"decision": "allow"}, {**decision, "more": 1}):
        assert world.post(f"{path}/decision", body, key=keys["moderator"]).status_code == 422


def test_a_suspended_account_orders_nothing_and_its_films_go_on(world: World, keys: dict[str, str]) -> None:
    running = world.post("/v1/videos", {**FILM, "prompt": "bars"}).json()["id"]
    account = f"/v1/admin/accounts/{world.alice_id}"
    suspended = world.post(f"{account}/suspend", {"reason": "Repeated attempts"}, key=keys["moderator"])
    assert suspended.json()["suspended_reason"] == "Repeated attempts"
    refused = world.post("/v1/videos", {**FILM, "prompt": "bars"})
    assert (refused.status_code, refused.json()["code"]) == (403, "account_suspended")
    world.work()
    assert world.get(f"/v1/videos/{running}").json()["status"] == "completed"
    assert world.post(f"{account}/reinstate", key=keys["operator"]).json()["suspended_at"] is None
    assert world.post("/v1/videos", {**FILM, "prompt": "bars"}).status_code == 200


def test_an_operator_sets_how_an_account_is_moderated(world: World, keys: dict[str, str]) -> None:
    path = f"/v1/admin/accounts/{world.alice_id}/moderation_level"
    headers = {"Authorization": f"Bearer {keys['operator']}"}
    answer = world.app.put(path, json={"moderation_level": "strict"}, headers=headers)
    assert answer.json()["moderation_level"] == "strict"
    assert world.post("/v1/videos", FILM).json()["code"] == "content_refused"
    assert world.app.put(path, json={"moderation_level": "lax"}, headers=headers).status_code == 422
    with transaction() as session:
        assert session.get_one(Account, world.alice_id).moderation_level == "strict"
    assert acts(world.alice_id) == ["account.moderation_changed"]
