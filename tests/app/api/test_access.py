"""Every route, called with no key, a wrong key, a wrong scope or role, and with another tenant's ids."""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from PIL import Image
from starlette.routing import Route

from app.accounts.keys import authenticate, issue_key, revoke_key, revoke_lineage
from app.accounts.projects import archive_project, create_project
from app.api.access import ANY
from app.api.mcp.routes import PATH as MCP
from app.api.route_index import iter_routes
from app.cli.asgi import create_site
from app.clock import now
from app.db import transaction
from app.jobs.share_tables import ShareLink
from app.roles import Role
from app.web.routes import ROUTERS
from tests.api_client import SCOPES, World

# Routes without authentication. A new one has to be added here, on purpose.
PUBLIC = {
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/llms.txt",
    "/health",
    # Their last path segment is signed, refers to one object, and expires.
    "/files/{token}",
    "/api/v1/uploads/{permit}",
    "/v1/assets/uploads/{token}",
    # Whoever has a file may ask where it comes from.
    "/v1/verify",
}
ORDER = {"model": "synthetic", "prompt": "b", "seconds": 1, "resolution": "480P"}
# Path parameters that name nothing of an account.
GLOBAL_IDS = {"model_id", "owner", "version_id"}
# Routes that a key may call whatever its scopes. A new one has to be added here, on purpose.
OF_THE_KEY_ITSELF = {"/v1/keys/{key_id}", "/v1/keys/{key_id}/rotate"}


@cache
def routes() -> list[Route]:
    return list(iter_routes(create_site()))


def keyed() -> Iterator[tuple[str, APIRoute]]:
    """Each method of each route that requires an API key."""
    for route in routes():
        if isinstance(route, APIRoute) and required_by(route):
            for method in sorted(route.methods):
                yield method, route


def required_by(route: APIRoute) -> tuple[str, tuple[str, ...]] | None:
    """The scope and the roles that a route's dependencies require of a key, or None."""
    pending = list(route.dependant.dependencies)
    while pending:
        each = pending.pop()
        scope = getattr(each.call, "scope", None)
        if scope is not None:
            return str(scope), tuple(str(role) for role in each.call.roles)  # type: ignore[union-attr]
        pending += each.dependencies
    return None


def fill(path: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        path = path.replace("{" + name + "}", value)
    return re.sub(r"{(\w+)(:path)?}", r"\1", path)


def ask(world: World, method: str, path: str, key: str | None) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # A body that every route can parse far enough to authenticate; its content does not matter.
    return world.app.request(method, path, headers=headers, json={} if method in ("POST", "PUT", "PATCH") else None)


@pytest.fixture
def site(world: World) -> Iterator[World]:
    """The service with its pages, as `cinemeter api` serves it."""
    with TestClient(create_site(), raise_server_exceptions=False, follow_redirects=False) as client:
        yield replace(world, app=client)


def test_every_route_requires_a_key_or_a_visitor_or_is_public_on_purpose() -> None:
    pages = {route.path for router in ROUTERS for route in router.routes if isinstance(route, Route)}
    asking = {route.path for _, route in keyed()} | {MCP}
    served = {route.path for route in routes()}
    assert served - pages - asking == PUBLIC
    assert not pages & asking


def test_no_key_and_a_wrong_key_are_refused_everywhere(site: World) -> None:
    wrong = site.alice[:-1] + ("0" if site.alice[-1] != "0" else "1")
    addresses = [(method, fill(route.path, {})) for method, route in keyed()] + [("POST", MCP)]
    assert len(addresses) > 100
    for method, path in addresses:
        for key in (None, "cm_live_nonsense", wrong):
            answer = ask(site, method, path, key)
            assert answer.status_code == 401, (method, path, answer.status_code, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer", (method, path)


def test_a_key_opens_no_page(site: World) -> None:
    """Pages authenticate visitors by a cookie; an API key has no effect there."""
    strangers = 0
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods:
                path = fill(route.path, {})
                with_key, without = (ask(site, method, path, key).status_code for key in (site.alice, None))
                assert with_key == without, (method, path)
                strangers += with_key == 401
    assert strangers > 60


def test_a_key_without_the_scope_is_refused_everywhere(site: World) -> None:
    with transaction() as session:
        keys = {
            scope: issue_key(session, site.alice_id, scopes=[other for other in SCOPES if other != scope])[1]
            for scope in SCOPES
        }
    for method, route in keyed():
        scope, _ = required_by(route) or ("", ())
        if scope == ANY:
            assert route.path in OF_THE_KEY_ITSELF, route.path
            continue
        answer = ask(site, method, fill(route.path, {}), keys.get(scope, site.alice))
        assert answer.status_code == 403, (method, route.path, scope, answer.status_code, answer.text)
    assert ask(site, "POST", MCP, keys["videos"]).status_code == 403


def test_an_admin_key_without_the_role_is_refused_everywhere(site: World) -> None:
    operators = (Role.OPERATOR, Role.PRICING_AUTHOR, Role.PRICING_APPROVER)
    seen = 0
    with transaction() as session:
        keys = {
            role: issue_key(session, site.alice_id, scopes=["admin"], roles=[r for r in operators if r != role])[1]
            for role in operators
        }
    for method, route in keyed():
        scope, roles = required_by(route) or ("", ())
        if scope != "admin" or len(roles) != 1:
            continue
        seen += 1
        answer = ask(site, method, fill(route.path, {}), keys[Role(roles[0])])
        assert answer.status_code == 403, (method, route.path, roles, answer.status_code, answer.text)
    assert seen > 25


@pytest.fixture
def theirs(world: World) -> dict[str, str]:
    """Ids of objects that belong to Bob, by path parameter."""
    picture = io.BytesIO()
    Image.new("RGB", (320, 200)).save(picture, "PNG")
    asset = world.post("/v1/assets", files={"file": ("a.png", picture.getvalue(), "image/png")}, key=world.bob)
    endpoint = world.post("/v1/webhook_endpoints", {"url": "https://example.com/hook"}, key=world.bob).json()["id"]
    video = world.post("/v1/videos", ORDER, key=world.bob).json()["id"]
    group = world.post("/v1/videos", {**ORDER, "n": 2}, key=world.bob).json()["group"]
    delivery = world.get("/v1/webhook_deliveries", key=world.bob).json()["data"][0]["id"]
    key = world.get("/v1/keys/self", key=world.bob).json()["id"]
    with transaction() as session:
        moment = now(session)
        times = {"created_at": moment, "expires_at": moment + timedelta(days=1)}
        session.add(ShareLink(id="share_1", job_id=video, account_id=world.bob_id, created_by=world.bob_id, **times))
    return {
        "video_id": video,
        "group_id": group,
        "task_id": video,
        "prediction_id": video,
        "asset_id": asset.json()["id"],
        "sha256": hashlib.sha256(picture.getvalue()).hexdigest(),
        "endpoint_id": endpoint,
        "delivery_id": delivery,
        "key_id": key,
        "link_id": "share_1",
    }


# What a route needs in its body to get as far as checking the id in its path.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/videos/{video_id}/remix": {"prompt": "again"},
    "/v1/videos/{video_id}/retakes": {"shot": 0},
    "/v1/webhook_endpoints/{endpoint_id}/recover": {"since": "2026-01-01T00:00:00Z"},
}


def test_another_tenants_things_are_not_found(site: World, theirs: dict[str, str]) -> None:
    before = {
        path: site.get(path, key=site.bob).json() for path in ("/v1/videos", "/v1/assets", "/v1/webhook_endpoints")
    }
    # An id that never existed; a hash has to look like one.
    unknown = {**dict.fromkeys(theirs, "nothing"), "sha256": "0" * 64}
    seen = 0
    for method, route in keyed():
        names = set(re.findall(r"{(\w+)", route.path))
        if (required_by(route) or ("",))[0] == "admin" or not names - GLOBAL_IDS:
            continue
        assert names <= theirs.keys() | GLOBAL_IDS, f"{route.path}: add an object of Bob's to theirs()"
        seen += 1
        headers = {"Authorization": f"Bearer {site.alice}"}
        body = BODIES.get(route.path, {}) if method in ("POST", "PUT") else None
        strange = site.app.request(method, fill(route.path, theirs), headers=headers, json=body)
        absent = site.app.request(method, fill(route.path, unknown), headers=headers, json=body)
        expected = 200 if (method, route.path) == ("GET", "/api/v1/tasks/{task_id}") else 404
        assert strange.status_code == expected, (method, route.path, strange.status_code, strange.text)
        if method == "HEAD":
            assert absent.status_code == expected
            continue
        # The response equals that for an id that never existed, so it does not reveal that the object exists.
        assert shape(strange.json()) == shape(absent.json()), (method, route.path)
    assert seen >= 24
    after = {path: site.get(path, key=site.bob).json() for path in before}
    assert after == before


def shape(answer: dict[str, Any]) -> dict[str, Any]:
    """A response without the values that always differ: the request id and the requested id."""
    if "output" in answer:
        return {"task_status": answer["output"]["task_status"]}
    return {name: value for name, value in answer.items() if name not in ("request_id", "id")}


def test_another_tenants_ids_open_nothing_in_queries_and_bodies(site: World, theirs: dict[str, str]) -> None:
    with transaction() as session:
        project = create_project(session, site.bob_id, "theirs").id
    quote = site.post("/v1/videos/quotes", ORDER, key=site.bob).json()["id"]
    event = site.get("/v1/events", key=site.bob).json()["last_id"]
    cursors = {
        "/v1/videos": theirs["video_id"],
        "/v1/assets": theirs["asset_id"],
        "/v1/webhook_endpoints": theirs["endpoint_id"],
        "/v1/webhook_deliveries": theirs["delivery_id"],
        "/v1/receipts": theirs["video_id"],
        "/v1/events": event,
    }
    for path, cursor in cursors.items():
        assert site.get(path, params={"after": cursor}).status_code in (404, 422), path
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/videos", {**ORDER, "first_frame": theirs["asset_id"]}),
        ("/v1/videos", {**ORDER, "quote_id": quote}),
        ("/v1/videos", {**ORDER, "project": project}),
        ("/v1/videos/edits", {"prompt": "x", "video": theirs["video_id"]}),
        ("/v1/videos/edits", {"prompt": "x", "video": {"id": theirs["video_id"]}}),
        ("/v1/videos/extensions", {"prompt": "x", "video": theirs["video_id"]}),
        ("/v1/webhook_endpoints", {"url": "https://example.com/", "project": project}),
        ("/v1/assets/from_hash", {"sha256": theirs["sha256"]}),
        ("/v4/ai/video-model/status", {"operation": {"id": theirs["video_id"]}}),
        ("/replicate/v1/predictions", {"version": "synthetic", "input": {"prompt": "x", "image": theirs["asset_id"]}}),
    ]
    for path, body in bodies:
        answer = site.post(path, body)
        assert answer.status_code == 404, (path, body, answer.status_code, answer.text)
    assert site.get("/v1/videos").json()["data"] == []


def test_live_and_test_and_the_projects_of_one_account_do_not_see_one_another(site: World) -> None:
    with transaction() as session:
        projects = [create_project(session, site.alice_id, name).id for name in ("one", "two")]
        keys = [issue_key(session, site.alice_id, scopes=SCOPES, project_id=project)[1] for project in projects]
    video_ids = {}
    for key in (*keys, site.test_key):
        # The same idempotency key and body for each key: none may get another's film.
        headers = {"Idempotency-Key": "order-1", "X-Stainless-Retry-Count": "1"}
        video_ids[key] = site.post("/v1/videos", ORDER, key=key, headers=headers).json()["id"]
        assert site.post("/v1/videos", ORDER, key=key, headers=headers).json()["id"] == video_ids[key]
    assert len(set(video_ids.values())) == 3
    for key, other in ((keys[0], keys[1]), (keys[1], keys[0]), (site.test_key, keys[0]), (site.alice, site.test_key)):
        assert site.get(f"/v1/videos/{video_ids[other]}", key=key).status_code == 404
        assert site.get(f"/api/v1/tasks/{video_ids[other]}", key=key).json()["output"]["task_status"] == "UNKNOWN"
        assert video_ids[other] not in site.get("/v1/videos", key=key).text
        assert video_ids[other] not in site.get("/v1/events", key=key).text


def test_a_blind_retry_is_answered_for_its_own_key_only(site: World) -> None:
    with transaction() as session:
        second = issue_key(session, site.alice_id, scopes=SCOPES)[1]
    retried = {"X-Stainless-Retry-Count": "1"}
    first = site.post("/v1/videos", ORDER).json()["id"]
    assert site.post("/v1/videos", ORDER, headers=retried).json()["id"] == first
    assert site.post("/v1/videos", ORDER, key=second, headers=retried).json()["id"] != first
    assert site.post("/v1/videos", ORDER, key=site.test_key, headers=retried).json()["id"] != first


def test_a_key_replaces_itself_and_no_other(world: World) -> None:
    with transaction() as session:
        old = issue_key(session, world.alice_id, scopes=["webhooks"], name="courier", job_cap=500)[1]
    before = world.get("/v1/keys/self", key=old).json()
    assert (before["name"], before["scopes"], before["job_cap"], before["secret"]) == (
        "courier",
        ["webhooks"],
        "5.00",
        None,
    )
    # Not even another key of the same account, whose permissions the calling key does not have.
    refused = world.post(f"/v1/keys/{before['id']}/rotate", {})
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert world.post("/v1/keys/self/rotate", {"overlap_hours": 73}, key=old).status_code == 422
    fresh = world.post(f"/v1/keys/{before['id']}/rotate", {"overlap_hours": 2}, key=old).json()
    names = ("name", "scopes", "job_cap", "test", "project", "expires_at")
    assert {name: fresh[name] for name in names} == {name: before[name] for name in names}
    for key in (old, fresh["secret"]):
        assert world.get("/v1/webhook_endpoints", key=key).status_code == 200
        assert world.get("/v1/videos", key=key).status_code == 403
    ending = world.get("/v1/keys/self", key=old).json()
    assert (ending["replaced_by"], ending["live"], ending["secret"]) == (fresh["id"], True, None)
    assert ending["expires_at"] is not None
    again = world.post("/v1/keys/self/rotate", {}, key=old)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    last = world.post("/v1/keys/self/rotate", {"overlap_hours": 0}, key=fresh["secret"]).json()
    assert world.get("/v1/keys/self", key=fresh["secret"]).status_code == 401
    assert world.get("/v1/keys/self", key=last["secret"]).status_code == 200
    # This also locks out a thief who replaced the first key.
    with transaction() as session:
        revoke_lineage(session, world.alice_id, before["id"])
    assert {world.get("/v1/keys/self", key=key).status_code for key in (old, last["secret"])} == {401}


def test_projects_are_listed_to_those_who_order_for_them(world: World) -> None:
    with transaction() as session:
        trailer, shorts = (create_project(session, world.alice_id, name).id for name in ("Trailer", "Shorts"))
        create_project(session, world.bob_id, "theirs")
        closed = create_project(session, world.alice_id, "Closed").id
        archive_project(session, world.alice_id, closed)
        of_one = issue_key(session, world.alice_id, scopes=["videos"], project_id=trailer)[1]
    listed = world.get("/v1/projects").json()["data"]
    assert [(each["id"], each["name"]) for each in listed] == [(shorts, "Shorts"), (trailer, "Trailer")]
    assert [each["id"] for each in world.get("/v1/projects", key=of_one).json()["data"]] == [trailer]
    assert world.post("/v1/videos", {**ORDER, "project": shorts}).json()["project"] == shorts


def test_a_revoked_key_is_dead_at_once(world: World) -> None:
    with transaction() as session:
        caller = authenticate(session, world.alice)
        revoke_key(session, world.alice_id, str(caller.key_id))
    assert world.get("/v1/videos").status_code == 401
