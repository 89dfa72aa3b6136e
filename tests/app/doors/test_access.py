"""Every route, asked with no key, a wrong key, a key without its scope, and another tenant's ids."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from app.accounts.keys import authenticate, issue_key, revoke_key
from app.db import transaction
from app.doors.api import create_app
from tests.world import SCOPES, World

# Addresses that anybody may ask. A new one has to be written down here, on purpose.
PUBLIC = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/files/{token}"),
    ("PUT", "/v1/assets/uploads/{token}"),
}
# What a tenant must never see of another one, by the name of the path's parameter.
FOREIGN = ("video_id", "asset_id", "endpoint_id", "delivery_id", "task_id", "key_id", "project_id")


def routes() -> Iterator[tuple[str, APIRoute]]:
    waiting: list[Any] = list(create_app().routes)
    while waiting:
        route = waiting.pop(0)
        if isinstance(route, APIRoute):
            for method in sorted(route.methods or ()):
                yield method, route
        else:
            # FastAPI keeps an included router as one route that holds the router itself.
            waiting += getattr(getattr(route, "original_router", None), "routes", [])


def scope_of(route: APIRoute) -> str | None:
    """The scope that a route's dependencies ask for, or None."""
    waiting = list(route.dependant.dependencies)
    while waiting:
        each = waiting.pop()
        scope = getattr(each.call, "scope", None)
        if scope is not None:
            return str(scope)
        waiting += each.dependencies
    return None


def fill(path: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        path = path.replace("{" + name + "}", value)
    return path.replace("{", "").replace("}", "")


def ask(world: World, method: str, path: str, key: str | None) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # A body that every route can read far enough to know who asks; what it says does not matter here.
    return world.app.request(method, path, headers=headers, json={} if method in ("POST", "PUT", "PATCH") else None)


def test_every_route_that_is_not_public_asks_for_a_scope() -> None:
    open_routes = {(method, route.path) for method, route in routes() if scope_of(route) is None}
    assert open_routes == PUBLIC


def test_no_key_and_a_wrong_key_are_refused_everywhere(world: World) -> None:
    for method, route in routes():
        if (method, route.path) in PUBLIC:
            continue
        path = fill(route.path, {})
        for key in (None, "cm_live_nonsense", world.alice[:-1] + ("0" if world.alice[-1] != "0" else "1")):
            answer = ask(world, method, path, key)
            assert answer.status_code == 401, (method, path, answer.status_code, answer.text)


def test_a_key_without_the_scope_is_refused_everywhere(world: World) -> None:
    with transaction() as session:
        keys = {
            scope: issue_key(session, world.alice_id, scopes=[other for other in SCOPES if other != scope])[1]
            for scope in SCOPES
        }
    for method, route in routes():
        scope = scope_of(route)
        if scope is None:
            continue
        answer = ask(world, method, fill(route.path, {}), keys.get(scope, world.alice))
        assert answer.status_code == 403, (method, route.path, scope, answer.status_code, answer.text)


@pytest.fixture
def theirs(world: World) -> dict[str, str]:
    """Things that belong to Bob, by the name under which paths ask for them."""
    order = {"model": "synthetic", "prompt": "b", "seconds": 1, "resolution": "480P"}
    hook = {"url": "https://example.com/hook"}
    endpoint = world.post("/v1/webhook_endpoints", hook, key=world.bob).json()["id"]
    video = world.post("/v1/videos", order, key=world.bob).json()["id"]
    delivery = world.get("/v1/webhook_deliveries", key=world.bob).json()["data"][0]["id"]
    return {"video_id": video, "task_id": video, "endpoint_id": endpoint, "delivery_id": delivery}


def test_another_tenants_things_are_not_found(world: World, theirs: dict[str, str]) -> None:
    seen = 0
    for method, route in routes():
        names = [name for name in theirs if "{" + name + "}" in route.path]
        if not names or scope_of(route) == "admin":
            continue
        seen += 1
        path = fill(route.path, theirs)
        answer = ask(world, method, path, world.alice)
        if "/api/v1/tasks/" in path and method == "GET":
            assert answer.json()["output"]["task_status"] == "UNKNOWN", (method, path)
            continue
        assert answer.status_code in (404, 422), (method, path, answer.status_code, answer.text)
        assert theirs["video_id"] not in answer.text or answer.status_code == 404
        # The owner's own live things are as hidden from the same account's test key.
        hidden = ask(world, method, path, world.test_key)
        assert hidden.status_code in (404, 422) or "UNKNOWN" in hidden.text
    assert seen >= 15


def test_a_revoked_key_is_dead_at_once(world: World) -> None:
    with transaction() as session:
        caller = authenticate(session, world.alice)
        revoke_key(session, world.alice_id, str(caller.key_id))
    assert world.get("/v1/videos").status_code == 401
