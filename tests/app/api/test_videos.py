"""The native interface on a real database: from price to receipt, and what it refuses."""

from fractions import Fraction
from typing import Any

from sqlalchemy import Engine, event, text

from app.accounts.accounts import create_account
from app.accounts.keys import issue_key
from app.db import transaction
from app.reports.audit import audit_books
from app.wallet.balance import open_wallet
from tests.api_client import SCOPES, World

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def test_an_order_is_held_rendered_paid_and_audited(world: World) -> None:
    before = world.get("/v1/wallet").json()
    created = world.post("/v1/videos", {**ORDER, "seconds": 2})
    assert created.status_code == 200, created.text
    video = created.json()
    assert video["status"] == "queued"
    wallet = world.get("/v1/wallet").json()
    assert Fraction(wallet["held"]) == Fraction(video["price"]["total"])
    world.work()
    done = world.get(f"/v1/videos/{video['id']}").json()
    assert done["status"] == "completed", done
    assert done["charged"] == video["price"]["total"]
    after = world.get("/v1/wallet").json()
    assert Fraction(before["posted"]) - Fraction(after["posted"]) == Fraction(done["charged"])
    receipt = world.get(f"/v1/videos/{video['id']}/receipt").json()
    assert receipt["total"] == done["charged"]
    content = world.get(f"/v1/videos/{video['id']}/content")
    assert content.headers["content-type"] == "video/mp4"
    with transaction() as session:
        assert audit_books(session) == []


def test_an_unknown_subject_is_a_warning_and_no_refusal(world: World) -> None:
    order = {"model": "demo", "prompt": "golden retriever surfing", "seconds": 1, "resolution": "480P"}
    for path in ("/v1/videos/estimates", "/v1/videos/quotes", "/v1/videos"):
        answer = world.post(path, order)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        codes = {each["code"]: each["field"] for each in body["warnings"]}
        assert codes == dict.fromkeys(("unknown_subject", "not_understood", "nearest_words"), "shots.0.prompt")
        assert {"said": "surfing", "taken": "", "kind": "", "known": False} in body["resolved"]["prompt_terms"][0]
    assert world.get(f"/v1/videos/{body['id']}").json()["warnings"] == body["warnings"]
    clear = {**order, "prompt": "a red circle moves left on a blue background"}
    assert world.post("/v1/videos/estimates", clear).json()["warnings"] == []


def test_too_little_money_is_402_before_anything_is_queued(world: World) -> None:
    with transaction() as session:
        poor = create_account(session, "Poor")
        open_wallet(session, poor.id)
        key = issue_key(session, poor.id, scopes=SCOPES)[1]
    answer = world.post("/v1/videos", ORDER, key=key)
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_funds")
    assert world.get("/v1/videos", key=key).json()["data"] == []
    with transaction() as session:
        for table in ("jobs", "units", "holds", "events"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0, table


def test_a_list_of_ended_videos_reads_their_receipts_at_once(world: World, engine: Engine) -> None:
    for _ in range(3):
        world.post("/v1/videos", ORDER)
    world.work()
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    page = world.get("/v1/videos").json()["data"]
    assert [each["status"] for each in page] == ["completed"] * 3
    assert all(each["charged"] == each["price"]["total"] for each in page)
    assert sum("FROM receipts" in statement for statement in statements) == 1, statements


def test_a_retry_that_overtakes_its_first_call_makes_one_film(world: World) -> None:
    """The first call hung before the API read it, the client repeated it, and both arrive in the other order."""
    body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}

    def call(count: int) -> str:
        return world.post("/v1/videos", body, headers={"X-Stainless-Retry-Count": str(count)}).json()["id"]

    retry = call(1)
    assert call(0) == retry
    assert call(2) == retry
    assert call(0) != retry, "one call was overtaken, so the next is another order"
    assert len(world.get("/v1/videos").json()["data"]) == 2
    plain = world.post("/v1/videos", body).json()["id"]
    assert plain != retry, "who never repeats by itself has overtaken nothing"


def test_a_film_is_shared_by_a_link_that_can_be_revoked(world: World) -> None:
    video = world.post("/v1/videos", {**ORDER, "seconds": 1}).json()["id"]
    links = f"/v1/videos/{video}/share_links"
    early = world.post(links)
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    world.work()
    made = world.post(links, {"expires_in": 3600})
    assert made.status_code == 200, made.text
    link = made.json()
    assert link["expires_at"] - link["created_at"] == 3600
    assert "/shared/" in link["url"]
    assert world.post(links, {"expires_in": 10**9}).json()["field"] == "expires_in"
    assert [each["id"] for each in world.get(links).json()["data"]] == [link["id"]]
    for path in (links, f"{links}/{link['id']}"):
        call = world.get if path == links else world.delete
        assert call(path, key=world.bob).status_code == 404
    assert world.delete(f"{links}/{link['id']}").json()["revoked_at"] is not None
    assert world.get(links).json()["data"] == []
