"""Who repeats refused orders is slowed, then stopped, until an operator allows orders again; nobody else is."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.admin.inbox import InboxKind, read_inbox
from app.audit_log.actor import SYSTEM_ACTOR, Actor
from app.audit_log.tables import AuditEntry
from app.db import transaction
from app.errors import AppError
from app.jobs.order_restraints import _cache
from app.moderation.refusal_tables import OrderStop, RefusalCount
from app.moderation.repeaters import ACCOUNT, allow_orders, count_refusal, forget_refusals
from tests.api_client import SCOPES, World
from tests.app.moderation.conftest import PolicyWriter
from tests.app.moderation.test_orders import BAD, FILM, TASK, counts, mcp

pytestmark = pytest.mark.xdist_group("service")

REFUSED: dict[str, Any] = {**FILM, "prompt": BAD}
STOP = "[repeaters]\nslow_after = 3\nslow_per_minute = 100\nstop_after = 4"


def code(answer: Any) -> str:
    return "" if answer.status_code == 200 else str(answer.json()["code"])


def project_key(world: World, name: str) -> str:
    with transaction() as session:
        project = create_project(session, world.alice_id, name)
        return issue_key(session, world.alice_id, scopes=SCOPES, project_id=project.id)[1]


def stops() -> list[tuple[str, bool]]:
    with transaction() as session:
        query = select(OrderStop).where(OrderStop.allowed_at.is_(None)).order_by(OrderStop.stopped_at, OrderStop.scope)
        return [(stop.scope, stop.test) for stop in session.scalars(query)]


def test_after_many_refusals_orders_are_taken_slowly(world: World, policy: PolicyWriter) -> None:
    policy(more="[repeaters]\nslow_after = 2\nslow_per_minute = 1\nstop_after = 50")
    assert [code(world.post("/v1/videos", REFUSED)) for _ in range(2)] == ["content_refused"] * 2
    assert code(world.post("/v1/videos", FILM)) == ""
    slowed = world.post("/v1/videos", FILM)
    assert (slowed.status_code, slowed.json()["code"], slowed.json()["policy"]) == (429, "rate_limited", "slowed")
    assert int(slowed.headers["retry-after"]) > 0
    # Waiting does not help who orders more at once than a minute has.
    many = world.post("/v1/videos", {**FILM, "n": 2})
    assert (many.status_code, many.json()["field"], many.json()["allowed"]) == (422, "n", [1, 1])
    # Its test key, a project's key and another account are not.
    others = (world.test_key, project_key(world, "Other"), world.bob)
    assert [code(world.post("/v1/videos", FILM, key=key)) for key in others for _ in range(2)] == [""] * 6


def test_a_call_that_was_accepted_is_answered_again_however_orders_are_restrained(
    world: World, policy: PolicyWriter
) -> None:
    policy(more="[repeaters]\nslow_after = 2\nslow_per_minute = 1\nstop_after = 4")
    with_key = {"Idempotency-Key": "of an accepted order"}
    job = world.post("/v1/videos", FILM, headers=with_key).json()["id"]
    quote = mcp(world, "quote", {"order": FILM})["structuredContent"]
    confirmed = {"quote_id": quote["id"], "confirm_total": quote["total"]}
    film = mcp(world, "generate", confirmed)["structuredContent"]["id"]
    for restrained in ("rate_limited", "orders_stopped"):
        with transaction() as session:
            for _ in range(2):
                count_refusal(session, world.alice_id, scope="", test=False)
        _cache.clear()
        assert [code(world.post("/v1/videos", FILM)) for _ in range(2)][-1] == restrained
        for _ in range(2):
            again = world.post("/v1/videos", FILM, headers=with_key)
            assert (again.status_code, again.json().get("id")) == (200, job), again.text
            assert mcp(world, "generate", confirmed)["structuredContent"].get("id") == film
    assert code(world.post("/v1/videos", FILM, headers={"Idempotency-Key": "of a new order"})) == "orders_stopped"


def test_after_more_none_is_taken_until_an_operator_allows_them(world: World, policy: PolicyWriter) -> None:
    policy(more=STOP)
    project = project_key(world, "Other")
    for _ in range(4):
        assert code(world.post("/v1/videos", REFUSED)) == "content_refused"
    assert stops() == [("", False)]
    before = counts()
    for answer in (
        world.post("/v1/videos", FILM),
        world.post("/v1/videos", REFUSED),
        world.post("/v1/videos/quotes", FILM),
        world.post("/replicate/v1/models/cinemeter/synthetic/predictions", {"input": {"prompt": "bars"}}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "orders_stopped"), answer.text
    path = "/api/v1/services/aigc/video-generation/video-synthesis"
    task = world.post(path, {**TASK, "input": {"prompt": "bars"}}, headers={"X-DashScope-Async": "enable"})
    assert (task.status_code, task.json()["code"]) == (403, "AccessDenied")
    assert "orders_stopped" in str(mcp(world, "quote", {"order": FILM}))
    assert counts() == before
    # What an account has is not lost, and its other credentials go on.
    assert world.get("/v1/videos").status_code == 200
    assert [code(world.post("/v1/videos", FILM, key=key)) for key in (world.test_key, project, world.bob)] == [""] * 3
    with transaction() as session:
        items = read_inbox(session, "somebody", SYSTEM_ACTOR.roles, "UTC")
        assert [item.account_id for item in items if item.kind == InboxKind.ORDERS_STOPPED] == [world.alice_id]
        stop = session.scalars(select(OrderStop)).one()
        with pytest.raises(AppError, match="role"):
            allow_orders(session, Actor("alice", "key", frozenset({"owner"})), stop.id)
        allow_orders(session, SYSTEM_ACTOR, stop.id)
        with pytest.raises(AppError, match="already"):
            allow_orders(session, SYSTEM_ACTOR, stop.id)
        acts = session.scalars(select(AuditEntry.act).where(AuditEntry.subject == world.alice_id)).all()
        assert [act for act in acts if act.startswith("orders.")] == ["orders.stopped", "orders.allowed"]
    _cache.clear()
    assert code(world.post("/v1/videos", FILM)) == ""
    # It counts anew.
    assert code(world.post("/v1/videos", REFUSED)) == "content_refused"
    assert stops() == []


def test_a_test_key_stops_test_orders_only_and_a_process_that_knew_better_is_stopped_too(
    world: World, policy: PolicyWriter
) -> None:
    policy(more=STOP)
    for _ in range(4):
        assert code(world.post("/v1/videos", REFUSED, key=world.test_key)) == "content_refused"
    assert stops() == [("", True)]
    assert code(world.post("/v1/videos", FILM)) == ""
    # As another process does, which has read a moment ago that orders are taken.
    with transaction() as session:
        for _ in range(4):
            count_refusal(session, world.alice_id, scope="", test=False)
    assert code(world.post("/v1/videos", FILM)) == "orders_stopped"


def test_several_projects_stop_the_account_and_one_alone_cannot(world: World, policy: PolicyWriter) -> None:
    policy(more=STOP)
    with transaction() as session:
        for _ in range(40):
            count_refusal(session, world.alice_id, scope="project_a", test=False)
    assert stops() == [("project_a", False)]
    with transaction() as session:
        for scope in ("project_b", "project_c"):
            for _ in range(4):
                count_refusal(session, world.alice_id, scope=scope, test=False)
    assert {scope for scope, _ in stops()} == {"project_a", "project_b", "project_c", ACCOUNT}
    assert code(world.post("/v1/videos", FILM)) == "orders_stopped"
    assert code(world.post("/v1/videos", FILM, key=world.bob)) == ""


def test_new_projects_are_no_way_around_the_stop(world: World, policy: PolicyWriter) -> None:
    policy(more=STOP)
    with transaction() as session:
        for number in range(4):
            for _ in range(3):
                count_refusal(session, world.alice_id, scope=f"project_{number}", test=False)
    assert stops() == [(ACCOUNT, False)]
    assert code(world.post("/v1/videos", FILM)) == "orders_stopped"


def test_refusals_at_once_are_each_counted_and_stop_once(world: World, policy: PolicyWriter) -> None:
    policy(more=STOP)

    def refuse(_: int) -> None:
        with transaction() as session:
            count_refusal(session, world.alice_id, scope="", test=False)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(refuse, range(24)))
    with transaction() as session:
        assert session.scalars(select(RefusalCount.refusals)).all() == [24]
        assert session.scalars(select(AuditEntry.act).where(AuditEntry.act == "orders.stopped")).all() == [
            "orders.stopped"
        ]
        assert forget_refusals(session, limit=10) == 0
        session.execute(update(RefusalCount).values(day=RefusalCount.day - 1))
        assert forget_refusals(session, limit=10) == 1
    assert stops() == [("", False)]


def test_what_could_not_be_checked_counts_for_nobody(world: World, policy: PolicyWriter) -> None:
    policy("/error", more=STOP)
    assert code(world.post("/v1/videos", FILM)) == "unavailable"
    with transaction() as session:
        assert session.scalars(select(RefusalCount)).all() == []
