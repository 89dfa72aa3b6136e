"""The admin interface: who may do what, and that every action is recorded in the audit log."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response
from sqlalchemy import Engine, select

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.accounts.members import add_member
from app.clock import local_now
from app.db import transaction
from app.dispatch.worker_registry import register_worker
from app.jobs.queue_tables import Unit
from app.jobs.states import UnitState
from app.reports.audit import audit_books
from app.wallet.balance import open_wallet
from tests.api_client import World
from tests.app.prices.price_documents import book_text, contract_text

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@dataclass
class AdminClient:
    """The keys of the operators, and calls of the admin interface."""

    world: World
    author: str
    approver: str
    operator: str

    def call(self, method: str, path: str, json: Any = None, *, key: str, **options: Any) -> Response:
        headers = {"Authorization": f"Bearer {key}"}
        return self.world.app.request(method, f"/v1/admin{path}", json=json, headers=headers, **options)

    def done(self, method: str, path: str, json: Any = None, *, key: str | None = None, **options: Any) -> Any:
        answer = self.call(method, path, json, key=key or self.operator, **options)
        assert answer.status_code in (200, 201, 204), answer.text
        return answer.json() if answer.content else None

    def refused(self, code: str, method: str, path: str, json: Any = None, *, key: str | None = None) -> Any:
        answer = self.call(method, path, json, key=key or self.operator)
        assert answer.json()["code"] == code, answer.text
        return answer.json()

    def acts(self, subject: str) -> list[str]:
        entries = self.done("GET", "/audit_trail", params={"subject": subject})["data"]
        return [entry["act"] for entry in reversed(entries)]


@pytest.fixture
def admin(world: World, engine: Engine) -> AdminClient:
    keys = []
    with transaction(engine) as session:
        for roles in (["pricing_author"], ["pricing_approver"], ["operator"]):
            account = create_account(session, roles[0])
            open_wallet(session, account.id)
            keys.append(issue_key(session, account.id, scopes=["admin"], roles=roles)[1])
    return AdminClient(world, *keys)


def in_a(length: timedelta) -> str:
    return (local_now() + length).isoformat()


def test_the_lifecycle_of_a_price_book(admin: AdminClient) -> None:
    author, approver = admin.author, admin.approver
    draft = admin.done("POST", "/price_books", {"toml": book_text("summer", tax="0.03")}, key=author)
    path = f"/price_books/{draft['id']}"
    assert (draft["state"], draft["name"]) == ("draft", "summer")
    assert all(example["outcome"] is None for example in draft["examples"])

    text = book_text("summer", tax="0.09").replace('total = "4.39"', 'total = "4.40"')
    edited = admin.done("PATCH", path, {"toml": text, "note": "a try"}, key=author)
    broken = [example for example in edited["examples"] if example["outcome"]]
    assert broken
    problem = admin.refused(
        "invalid_price_book", "POST", f"{path}/approve", {"content_hash": edited["content_hash"]}, key=approver
    )
    assert problem["problems"]
    fixed = admin.done("PATCH", path, {"toml": book_text("summer", tax="0.09")}, key=author)
    admin.refused("conflict", "POST", f"{path}/approve", {"content_hash": draft["content_hash"]}, key=approver)

    changes = admin.done("GET", f"{path}/diff", key=approver)
    assert [each["path"] for each in changes["changes"]] == ["name", "tax_rate"]
    assert changes["changes"][1]["percent"] == "+50.00"
    simulated = admin.done("POST", f"{path}/simulate", {}, key=approver)
    assert simulated["book"]["hash"] == fixed["content_hash"]

    admin.refused("forbidden", "POST", f"{path}/approve", {"content_hash": fixed["content_hash"]}, key=author)
    admin.done("POST", f"{path}/approve", {"content_hash": fixed["content_hash"]}, key=approver)
    admin.refused("conflict", "PATCH", path, {"toml": text}, key=author)
    admin.refused(
        "invalid_request", "POST", f"{path}/schedule", {"effective_at": in_a(-timedelta(hours=1))}, key=author
    )
    at = in_a(timedelta(days=1))
    assert admin.done("POST", f"{path}/schedule", {"effective_at": at}, key=author)["state"] == "scheduled"
    assert admin.done("GET", "/price_books/in_force", key=author)["name"] == "2026-04-27"
    later = admin.done("GET", "/price_books/in_force", key=author, params={"at": in_a(timedelta(days=2))})
    assert later["name"] == "summer"
    assert admin.done("POST", f"{path}/withdraw", {"reason": "too dear"}, key=approver)["state"] == "withdrawn"
    assert [book["name"] for book in admin.done("GET", "/price_books", key=author)["data"]] == ["summer", "2026-04-27"]
    assert admin.acts(draft["id"]) == [
        "book.drafted",
        "book.edited",
        "book.edited",
        "book.simulated",
        "book.approved",
        "book.scheduled",
        "book.withdrawn",
    ]


def test_a_broken_book_is_refused_with_every_problem(admin: AdminClient) -> None:
    text = (
        book_text("bad").replace('factor = "0.65"', "factor = 0.65").replace('currency = "CNY"', 'currency = "XXX"', 1)
    )
    refusal = admin.refused("invalid_price_book", "POST", "/price_books", {"toml": text}, key=admin.author)
    assert len(refusal["problems"]) >= 2
    assert {"currency"} <= {problem["path"] for problem in refusal["problems"]}
    assert admin.call("POST", "/price_books", {"toml": "x", "colour": 1}, key=admin.author).json()["field"] == "colour"


def test_a_contract_prices_the_account_that_signed_it(admin: AdminClient) -> None:
    alice = admin.world.alice_id
    draft = admin.done("POST", "/contracts", {"account": alice, "toml": contract_text("0.50")}, key=admin.author)
    path = f"/contracts/{draft['id']}"
    admin.done("POST", f"{path}/approve", {"content_hash": draft["content_hash"]}, key=admin.approver)
    order = {"model": "synthetic", "prompt": "bars", "seconds": 10, "resolution": "720P"}
    assert admin.world.post("/v1/videos/estimates", order).json()["total"] == "4.39"
    admin.done("POST", f"{path}/schedule", {}, key=admin.approver)
    # 0.50 x 10 x 0.65 x 0.75
    assert admin.world.post("/v1/videos/estimates", order).json()["total"] == "2.44"
    assert admin.world.post("/v1/videos/estimates", order, key=admin.world.bob).json()["total"] == "4.39"
    ended = admin.done("POST", f"{path}/end", {"at": in_a(timedelta(seconds=30)), "reason": "over"}, key=admin.approver)
    assert ended["ends_at"]
    assert [each["id"] for each in admin.done("GET", "/contracts", params={"account": alice})["data"]] == [draft["id"]]
    assert admin.acts(draft["id"]) == ["contract.drafted", "contract.approved", "contract.scheduled", "contract.ended"]


def test_a_top_up_above_the_ceiling_needs_the_same_order_of_a_second_operator(
    admin: AdminClient, engine: Engine
) -> None:
    account = admin.done("POST", "/accounts", {"name": "Studio Wu"})["id"]
    path, order = f"/accounts/{account}/top_ups", {"amount": "1000000.00", "kind": "purchased", "reference": "tt-1"}
    with transaction(engine) as session:
        other = issue_key(session, create_account(session, "Second").id, scopes=["admin"], roles=["operator"])[1]
    for _ in range(2):
        answer = admin.call("POST", path, order, key=admin.operator)
        assert (answer.status_code, answer.json()["object"], answer.json()["state"]) == (202, "top_up_request", "open")
    for amount in ("1000001.00", "10.00"):
        admin.refused("conflict", "POST", path, {**order, "amount": amount}, key=other)
    first, again = (admin.done("POST", path, order, key=key)["id"] for key in (other, admin.operator))
    assert first == again
    assert admin.done("GET", f"/accounts/{account}/wallet")["posted"] == "1000000.00"
    assert admin.acts(answer.json()["id"]) == ["wallet.top_up_requested"]
    [entry] = admin.done("GET", "/audit_trail", params={"subject": first})["data"]
    assert entry["facts"]["sole_operator"] is False
    assert entry["facts"]["requested_by"] != entry["actor"]


def test_an_account_is_created_funded_used_and_corrected(admin: AdminClient, engine: Engine) -> None:
    account = admin.done("POST", "/accounts", {"name": "Studio Wu", "kind": "invoiced"})
    path = f"/accounts/{account['id']}"
    admin.done("POST", f"{path}/membership", {"membership": "professional"})
    admin.refused("invalid_request", "POST", f"{path}/membership", {"membership": "platinum"})
    order = {"amount": "10.00", "kind": "granted", "reference": "welcome", "expires_at": in_a(timedelta(days=30))}
    first, again = (admin.done("POST", f"{path}/top_ups", order)["id"] for _ in range(2))
    assert first == again
    admin.refused("conflict", "POST", f"{path}/top_ups", {**order, "amount": "11.00"})
    admin.refused("invalid_request", "POST", f"{path}/top_ups", {**order, "amount": "1.005"})
    admin.done("POST", f"{path}/corrections", {"amount": "-2.50", "reference": "c1", "reason": "a slip"})
    admin.done("PUT", f"{path}/credit_limit", {"amount": "5.00"})
    wallet = admin.done("PUT", f"{path}/low_balance", {"amount": "1.00"})
    assert (wallet["posted"], wallet["available"], wallet["low_balance"]) == ("7.50", "12.50", "1.00")

    issued = admin.done("POST", f"{path}/keys", {"scopes": ["videos", "billing"], "job_cap": "5.00"})
    key = issued["secret"]
    seen = admin.world.get("/v1/wallet", key=key).json()
    shared = ("posted", "held", "credit_limit", "available")
    assert [seen[name] for name in shared] == [wallet[name] for name in shared], (
        "customer and operator read the same wallet"
    )
    project = admin.done("POST", f"{path}/projects", {"name": "Trailer", "budget_month": "9.00"})
    video = admin.world.post("/v1/videos", {**ORDER, "project": project["id"]}, key=key).json()
    admin.world.work()
    video = admin.world.get(f"/v1/videos/{video['id']}", key=key).json()
    assert video["status"] == "completed", video
    refund = {"video": video["id"], "amount": video["charged"], "reference": "r1", "reason": "flicker"}
    admin.done("POST", f"{path}/refunds", refund)
    admin.refused("conflict", "POST", f"{path}/refunds", {**refund, "reference": "r2"})
    admin.refused("not_found", "POST", f"/accounts/{admin.world.bob_id}/refunds", {**refund, "reference": "r3"})
    kinds = [each["kind"] for each in admin.done("GET", f"{path}/transfers")["data"]]
    assert kinds == ["refund", "capture", "correction", "grant"]

    admin.done("POST", f"{path}/suspend", {"reason": "unpaid"})
    assert admin.world.post("/v1/videos", ORDER, key=key).json()["code"] == "account_suspended"
    assert admin.world.get("/v1/videos", key=key).status_code == 200
    admin.done("POST", f"{path}/reinstate")
    admin.done("PUT", f"{path}/limits", {"concurrency": 1, "queue_limit": 0})
    assert admin.world.post("/v1/videos", ORDER, key=key).json()["code"] == "queue_full"
    labelled = admin.done("PUT", f"{path}/visible_label", {"visible_label": "gb45438"})
    assert labelled["visible_label"] == "gb45438"
    admin.refused("invalid_request", "PUT", f"{path}/visible_label", {"visible_label": "large"})
    assert admin.done("PUT", f"{path}/declarations", {"declarations_required": True})["declarations_required"] is True
    fresh = admin.done("POST", f"{path}/keys/{issued['id']}/rotate", {"overlap_hours": 1})
    assert admin.acts(fresh["id"]) == ["key.rotated"]
    assert {admin.world.get("/v1/videos", key=each).status_code for each in (key, fresh["secret"])} == {200}
    admin.done("DELETE", f"{path}/keys/{issued['id']}")
    assert admin.world.get("/v1/videos", key=key).status_code == 401
    assert admin.acts(account["id"]) == [
        "account.opened",
        "account.membership_changed",
        "wallet.credit_limited",
        "wallet.low_balance_set",
        "account.suspended",
        "account.reinstated",
        "account.limited",
        "account.labelled",
        "account.declarations",
    ]
    with transaction(engine) as session:
        assert audit_books(session) == []


def test_invitations_grant_no_more_than_the_inviter_has(admin: AdminClient) -> None:
    path = f"/accounts/{admin.world.alice_id}"
    invitation = admin.done("POST", f"{path}/invitations", {"email": "Wu@example.com", "roles": ["owner"]})
    assert invitation["token"]
    assert "token" not in admin.done("GET", f"{path}/invitations")["data"][0]
    admin.done("DELETE", f"{path}/invitations/{invitation['id']}")
    assert admin.done("GET", f"{path}/invitations")["data"] == []
    wish = {"email": "spy@example.com", "roles": ["pricing_approver"]}
    assert admin.refused("forbidden", "POST", f"{path}/invitations", wish)["beyond"] == ["pricing_approver"]
    key = {"scopes": ["admin"], "roles": ["pricing_approver"]}
    admin.refused("forbidden", "POST", f"{path}/keys", key)
    admin.done("POST", f"{path}/keys", {"scopes": ["admin"], "roles": ["operator"]})


def test_intake_pauses_bind_new_jobs_only(admin: AdminClient) -> None:
    accepted = admin.world.post("/v1/videos", ORDER).json()
    admin.refused("unknown_model", "POST", "/intake_pauses", {"reason": "x", "model": "no-such"})
    pause = admin.done("POST", "/intake_pauses", {"reason": "new weights", "model": "synthetic"})
    refused = admin.world.post("/v1/videos", ORDER)
    assert (refused.status_code, refused.json()["code"]) == (503, "intake_paused")
    admin.refused("conflict", "POST", "/intake_pauses", {"reason": "again", "model": "synthetic"})
    admin.world.work()
    assert admin.world.get(f"/v1/videos/{accepted['id']}").json()["status"] == "completed"
    admin.done("DELETE", f"/intake_pauses/{pause['id']}")
    assert admin.world.post("/v1/videos", ORDER).status_code == 200
    counts = admin.done("GET", "/jobs/summary")["data"]
    assert {(each["status"], each["count"]) for each in counts} == {("completed", 1), ("queued", 1)}
    jobs = admin.done("GET", "/jobs", params={"state": "completed"})["data"]
    assert [(job["id"], job["account"]) for job in jobs] == [(accepted["id"], admin.world.alice_id)]
    [waiting] = admin.done("GET", "/jobs", params={"state": "queued"})["data"]
    assert waiting["queue_position"] == 0
    first = admin.done("GET", "/jobs", params={"limit": 1})
    rest = admin.done("GET", "/jobs", params={"limit": 1, "after": first["last_id"]})
    assert (first["has_more"], rest["has_more"], rest["last_id"]) == (True, False, accepted["id"])


def test_an_operator_cancels_a_job_of_any_account(admin: AdminClient) -> None:
    job = admin.world.post("/v1/videos", ORDER, key=admin.world.bob).json()["id"]
    cancelled = admin.done("POST", f"/jobs/{job}/cancel")
    assert (cancelled["id"], cancelled["status"]) == (job, "cancelled")
    assert admin.world.get(f"/v1/videos/{job}", key=admin.world.bob).json()["status"] == "cancelled"
    assert admin.acts(job) == ["job.cancelled"]
    assert admin.refused("already_final", "POST", f"/jobs/{job}/cancel")["state"] == "cancelled"
    admin.refused("not_found", "POST", "/jobs/video_nobodys/cancel")
    # Whoever approves prices, or has a key of the account itself, cancels nothing here.
    other = admin.world.post("/v1/videos", ORDER, key=admin.world.bob).json()["id"]
    for key in (admin.author, admin.approver, admin.world.bob):
        admin.refused("forbidden", "POST", f"/jobs/{other}/cancel", key=key)
    assert admin.call("POST", f"/jobs/{other}/cancel", key="cm_live_wrong").status_code == 401
    assert admin.world.get(f"/v1/videos/{other}", key=admin.world.bob).json()["status"] == "queued"
    assert admin.acts(other) == []


def test_a_repeated_cancel_is_logged_once(admin: AdminClient) -> None:
    job = admin.world.post("/v1/videos", {**ORDER, "seconds": 4}).json()["id"]
    with transaction() as session:
        # As if a segment had ended before: the job ends only when its film is joined.
        segment = session.scalars(select(Unit).where(Unit.job_id == job, Unit.kind == "segment")).first()
        assert segment is not None
        segment.state = UnitState.DONE
    for _ in range(2):
        assert admin.done("POST", f"/jobs/{job}/cancel")["status"] != "cancelled"
    assert admin.acts(job) == ["job.cancelled"]


def test_workers_drain_and_deliveries_are_seen(admin: AdminClient, engine: Engine) -> None:
    with transaction(engine) as session:
        facts = {"name": "Some GPU", "memory_bytes": 80 * 2**30, "torch": "2.13.0"}
        register_worker(session, "w-1", pools=["demo"], host="gpu-1", pid=1, device="cuda:0", facts=facts)
    assert admin.done("POST", "/workers/w-1/drain")["drain_requested"] is True
    assert admin.done("POST", "/workers/w-1/resume")["drain_requested"] is False
    admin.refused("not_found", "POST", "/workers/w-2/drain")
    [listed] = admin.done("GET", "/workers")["data"]
    assert (listed["id"], listed["device_name"], listed["memory_bytes"]) == ("w-1", "Some GPU", 80 * 2**30)
    assert listed["facts"]["torch"] == "2.13.0"
    assert admin.acts("w-1") == ["worker.drained", "worker.resumed"]
    ordered = admin.world.post("/v1/videos", {**ORDER, "callback_url": "https://hooks.example.com/cinemeter"})
    assert ordered.status_code == 200, ordered.text
    admin.world.work()
    delivery = admin.done("GET", "/deliveries", params={"account": admin.world.alice_id})["data"][0]
    assert delivery["state"] == "pending"
    again = admin.done("POST", f"/deliveries/{delivery['id']}/redeliver")
    assert again["id"] == delivery["id"]
    assert admin.acts(delivery["id"]) == ["delivery.repeated"]


def test_what_was_created_can_be_read(admin: AdminClient) -> None:
    account = admin.done("POST", "/accounts", {"name": "Studio Lin"})
    path = f"/accounts/{account['id']}"
    assert admin.done("GET", path)["name"] == "Studio Lin"
    assert account["id"] in {each["id"] for each in admin.done("GET", "/accounts")["data"]}
    key = admin.done("POST", f"{path}/keys", {"scopes": ["videos"], "name": "render farm"})
    listed = admin.done("GET", f"{path}/keys")["data"]
    assert [each["name"] for each in listed] == ["render farm"]
    assert key["secret"] not in str(listed)
    project = admin.done("POST", f"{path}/projects", {"name": "Trailer"})
    limited = admin.done("PUT", f"{path}/projects/{project['id']}/budget", {"budget_month": "9.00"})
    assert admin.done("GET", f"{path}/projects")["data"] == [limited]
    admin.done("POST", f"{path}/top_ups", {"amount": "10.00", "kind": "purchased", "reference": "t1"})
    assert admin.done("GET", f"{path}/wallet")["posted"] == "10.00"
    pause = admin.done("POST", "/intake_pauses", {"reason": "unpaid", "account": account["id"]})
    assert [each["id"] for each in admin.done("GET", "/intake_pauses")["data"]] == [pause["id"]]

    draft = admin.done("POST", "/price_books", {"toml": book_text("autumn")}, key=admin.author)
    assert admin.done("GET", f"/price_books/{draft['id']}", key=admin.author) == draft
    draft = {"account": account["id"], "toml": contract_text("0.50")}
    contract = admin.done("POST", "/contracts", draft, key=admin.author)
    path = f"/contracts/{contract['id']}"
    edited = admin.done("PATCH", path, {"toml": contract_text("0.45"), "note": "they asked"}, key=admin.author)
    assert admin.done("GET", path, key=admin.author) == edited
    assert edited["content_hash"] != contract["content_hash"]
    assert admin.done("GET", f"{path}/diff", key=admin.author)["against"] is None
    withdrawn = admin.done("POST", f"{path}/withdraw", {"reason": "no deal"}, key=admin.author)
    assert withdrawn["state"] == "withdrawn"


def test_members_are_seen_given_roles_and_let_go(admin: AdminClient, engine: Engine) -> None:
    with transaction(engine) as session:
        lin = add_member(session, admin.world.alice_id, "lin@example.com", roles=["creator"]).id
        add_member(session, admin.world.alice_id, "wu@example.com", roles=["owner"])
    path = f"/accounts/{admin.world.alice_id}/members"
    assert {each["email"] for each in admin.done("GET", path)["data"]} == {"lin@example.com", "wu@example.com"}
    changed = admin.done("PUT", f"{path}/{lin}/roles", {"roles": ["owner"]})
    assert changed["roles"] == ["owner"]
    admin.done("DELETE", f"{path}/{lin}")
    (wu,) = admin.done("GET", path)["data"]
    admin.refused("conflict", "DELETE", f"{path}/{wu['id']}")


def test_other_keys_are_forbidden(admin: AdminClient) -> None:
    paths = admin.world.app.get("/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path in paths if path.startswith("/v1/admin") for method in paths[path]]
    assert len(routes) > 45
    for method, path in routes:
        address = re.sub(r"\{\w+\}", "some_id", path.removeprefix("/v1/admin"))
        stranger = admin.call(method, address, {}, key=admin.world.alice)
        assert (stranger.status_code, stranger.json()["code"]) == (403, "forbidden"), (method, path)
        assert admin.call(method, address, {}, key="cm_live_wrong").status_code == 401
        if method != "GET" and "price_books" not in path and "contracts" not in path:
            # A price approver may not change accounts.
            assert admin.call(method, address, {}, key=admin.approver).status_code == 403, (method, path)
