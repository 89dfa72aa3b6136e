"""Small findings of trying as a stranger: ids of others, HEAD, links, CSV, order of keys, and errors of MCP."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.accounts.accounts import get_account
from app.accounts.billing_periods import billing_month
from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.clock import now
from app.db import transaction
from app.dispatch.scheduler import run_round
from app.jobs.tables import Job
from app.reports.statement_csv import FORMULA_SIGNS
from app.settings import get_settings
from app.signed_tokens import TokenPurpose, sign_token
from tests.api_client import SCOPES, World

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


def ended(world: World, key: str | None = None, **fields: Any) -> dict[str, Any]:
    video = world.post("/v1/videos", {**ORDER, **fields}, key=key).json()
    world.work()
    return dict(world.get(f"/v1/videos/{video['id']}", key=key).json())


def path_of(link: str) -> str:
    return link.removeprefix(get_settings().base_url())


def test_ids_of_other_projects_and_of_the_other_side_are_unknown_cursors(world: World) -> None:
    with transaction() as session:
        projects = [create_project(session, world.alice_id, name).id for name in ("one", "two")]
        keys = [issue_key(session, world.alice_id, scopes=SCOPES, project_id=project)[1] for project in projects]
    videos = {
        key: world.post("/v1/videos", ORDER, key=key).json()["id"] for key in (*keys, world.alice, world.test_key)
    }
    world.work()
    strangers = [(keys[0], keys[1]), (keys[0], world.alice), (world.test_key, keys[0]), (world.alice, world.test_key)]
    for path in ("/v1/videos", "/v1/receipts"):
        for key, owner in strangers:
            foreign = world.get(path, key=key, params={"after": videos[owner]})
            absent = world.get(path, key=key, params={"after": "video_nothing"})
            assert (foreign.status_code, foreign.json()["detail"]) == (422, absent.json()["detail"]), (path, key)
        for key, video in videos.items():
            own = world.get(path, key=key, params={"after": video})
            assert own.status_code == 200, own.text


def test_a_deleted_film_is_still_a_cursor(world: World) -> None:
    first, second = ended(world), ended(world)
    world.delete(f"/v1/videos/{second['id']}")
    page = world.get("/v1/videos", params={"after": second["id"]}).json()
    assert [each["id"] for each in page["data"]] == [first["id"]]


def test_head_answers_what_get_would_without_its_body(world: World) -> None:
    video = ended(world)
    link = path_of(world.get(f"/api/v1/tasks/{video['id']}").json()["output"]["video_url"])
    headers = {"Authorization": f"Bearer {world.alice}"}
    for path in ("/healthz", "/readyz", link, f"/v1/videos/{video['id']}/content"):
        get = world.app.get(path, headers=headers)
        head = world.app.head(path, headers=headers)
        assert (get.status_code, head.status_code, head.content) == (200, 200, b""), path
        for name in ("content-length", "content-type", "accept-ranges", "content-disposition"):
            assert head.headers.get(name) == get.headers.get(name), (path, name)
    assert world.app.head("/files/nothing").status_code == 404
    assert world.app.head(f"/v1/videos/{video['id']}/content").status_code == 401


def test_links_to_a_film_can_be_revoked(world: World) -> None:
    video = ended(world)
    task = f"/api/v1/tasks/{video['id']}"
    old = path_of(world.get(task).json()["output"]["video_url"])
    assert world.app.get(old).status_code == 200
    revoke = f"/v1/videos/{video['id']}/revoke_links"
    assert world.post(revoke, key=world.bob).status_code == 404
    assert world.app.get(old).status_code == 200
    for _ in range(2):
        assert world.post(revoke).json()["id"] == video["id"]
        gone = world.app.get(old)
        assert (gone.status_code, gone.json()["code"]) == (410, "gone")
        assert "revoked" in gone.json()["detail"]
        old = path_of(world.get(task).json()["output"]["video_url"])
        assert world.app.get(old).status_code == 200, "a new link works"
    assert world.get(f"/v1/videos/{video['id']}/content").status_code == 200, "and so does a key"


def test_a_link_cannot_be_made_for_a_later_revocation(world: World) -> None:
    """The number in a link is signed with the rest; links made before the upgrade have none."""
    video = ended(world)
    with transaction() as session:
        session.execute(update(Job).values(links_revoked=2))
        moment = session.get_one(Job, video["id"]).created_at
    for generation, status in ((), 410), (("1",), 410), (("2",), 200), (("2", "2"), 410), (("3",), 410):
        expires = moment + timedelta(days=365)
        token = sign_token(TokenPurpose.FILM, video["id"], "video", *generation, expires_at=expires)
        assert world.app.get(f"/files/{token}").status_code == status, generation


def test_an_unfinished_film_says_when_to_ask_again(world: World) -> None:
    video = world.post("/v1/videos", ORDER).json()
    early = world.get(f"/v1/videos/{video['id']}/content")
    assert (early.status_code, early.headers["retry-after"]) == (409, "5")


@pytest.mark.deep
def test_a_project_s_name_is_no_formula_in_any_spreadsheet(world: World) -> None:
    names = [f"{sign}1+1" for sign in FORMULA_SIGNS if sign.strip()]
    assert {"＝1+1", "＋1+1", "－1+1", "＠1+1"} <= set(names)
    for name in names:
        with transaction() as session:
            project = create_project(session, world.alice_id, name).id
        ended(world, project=project)
    with transaction() as session:
        month = billing_month(get_account(session, world.alice_id).billing_zone, now(session))
    table = world.get("/v1/statements", params={"month": month, "format": "csv"})
    assert table.status_code == 200, table.text
    cells = [cell for row in csv.reader(io.StringIO(table.text)) for cell in row]
    assert {f"'{name}" for name in names} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(FORMULA_SIGNS)]


def test_a_body_has_its_keys_in_one_order(world: World) -> None:
    """What an order answers equals what a later read answers, byte for byte, beside what changes."""
    metadata = {"zebra": "1", "a": "2", "middle": "3"}
    made = world.post("/v1/videos", {**ORDER, "metadata": metadata}).json()
    read = world.get(f"/v1/videos/{made['id']}").json()
    priced = world.post("/v1/videos/estimates", ORDER).json()
    quoted = world.post("/v1/videos/quotes", ORDER).json()
    for name in ("resolved", "metadata"):
        assert json.dumps(made[name]) == json.dumps(read[name])
    assert list(made["resolved"]) == sorted(made["resolved"])
    assert list(priced["resolved"]) == list(quoted["resolved"]) == sorted(priced["resolved"])


def refusal(world: World, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a refused call of a tool, by plain HTTP."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    headers = {"accept": "application/json, text/event-stream"}
    result = world.post("/mcp", call, headers=headers).json()["result"]
    assert result["isError"], result
    return dict(json.loads(result["content"][0]["text"]))


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "field"),
    [
        ("status", {"video_id": "video_nothing"}, "not_found", None),
        ("status", {}, "invalid_request", "video_id"),
        ("list", {"limit": 0}, "invalid_request", "limit"),
        ("list", {"limit": 5, "offset": 3}, "invalid_request", "offset"),
        ("estimate", {"order": {"prompt": "x", "colour": "red"}}, "invalid_request", "order.colour"),
        ("generate", {"quote_id": "quote_nothing", "confirm_total": "1.00"}, "not_found", None),
        ("draw", {}, "not_found", "name"),
    ],
)
def test_refusals_of_mcp_are_json(
    world: World, tool: str, arguments: dict[str, Any], code: str, field: str | None
) -> None:
    problem = refusal(world, tool, arguments)
    assert (problem["code"], problem.get("field")) == (code, field)
    assert problem["message"]
    assert "pydantic" not in json.dumps(problem)


def test_every_end_without_the_ordered_film_says_why(world: World) -> None:
    cancelled = world.post("/v1/videos", ORDER).json()
    assert cancelled["error"] is None
    world.post(f"/v1/videos/{cancelled['id']}/cancel")
    expired = world.post("/v1/videos", {**ORDER, "expires_after": 60}).json()
    with transaction() as session:
        past = session.get_one(Job, expired["id"]).created_at
        session.execute(update(Job).where(Job.id == expired["id"]).values(not_after=past))
    run_round()
    for video, code in ((cancelled, "cancelled"), (expired, "expired")):
        end = world.get(f"/v1/videos/{video['id']}").json()
        assert (end["status"], end["error"]["code"]) == (code, code)
    assert ended(world)["error"] is None
