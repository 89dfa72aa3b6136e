"""Access control of pages: every route is tested, so that a new one cannot be forgotten."""

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from app.accounts.invitations import create_invitation
from app.accounts.keys import authenticate, issue_key
from app.accounts.members import list_members
from app.accounts.projects import create_project
from app.assets.ingest import add_asset, new_asset
from app.assets.owner import OwnerIds
from app.db import transaction
from app.jobs.tables import Job
from app.web.routes import ROUTERS
from app.webhooks.endpoints import create_endpoint
from app.webhooks.schemas import EndpointCreate
from app.webhooks.tables import Delivery
from tests.app.web.conftest import Browser, Site

# Pages that need no sign-in.
PUBLIC = {
    *("/static/{release}/{path:path}", "/sign-in", "/sign-up", "/sign-out", "/theme", "/prices", "/docs", "/"),
    *("/describe", "/showcase", "/language", "/verify", "/report"),
}
PUBLIC_PREFIXES = ("/invitations/", "/welcome/", "/docs/", "/showcase/")

# Pages of the console that other admins do not see.
MODERATORS_ONLY = "/admin/quarantine"


def routes(method: str) -> Iterator[str]:
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and method in route.methods:
                yield route.path


def address(template: str) -> str:
    """Return the path with an unknown id for every parameter."""
    return re.sub(r"\{[^}]*\}", "nothing", template.replace("/{variant}", "/video"))


def private(method: str) -> list[str]:
    paths = sorted(set(routes(method)) - PUBLIC)
    return [path for path in paths if not path.startswith(PUBLIC_PREFIXES)]


def test_visitors_who_are_not_signed_in_are_redirected_to_the_sign_in(site: Site):
    browser = site.browser()
    for path in private("GET"):
        query = "?id=nothing" if path == "/films/live" else ""
        assert browser.get(address(path) + query).url.path == "/sign-in", path
    for path in private("POST"):
        answer = browser.client.post(
            address(path), headers={"accept": "text/html", "sec-fetch-site": "same-origin"}, follow_redirects=False
        )
        assert (answer.status_code, answer.headers.get("location", "")[:8]) == (303, "/sign-in"), path


def test_customers_do_not_see_the_console(site: Site):
    browser = site.browser("alice")
    for path in private("GET"):
        status = browser.get(address(path)).status_code
        assert (status == 403) == path.startswith("/admin"), (path, status)
    form_page = browser.get("/account/projects") and browser.page
    for path in [each for each in private("POST") if each.startswith("/admin")]:
        browser.page = form_page
        assert browser.send(address(path)).status_code == 403, path


@pytest.mark.parametrize("name", ["author", "approver"])
def test_admins_see_the_console_and_no_customer_pages(site: Site, name: str):
    browser = site.browser(name)
    for path in private("GET"):
        status = browser.get(address(path)).status_code
        if path.startswith(MODERATORS_ONLY):
            assert status == 403, (path, status)
        elif path.startswith("/admin"):
            assert status in (200, 404) or "{" in path or path.endswith("/new"), (path, status)
        elif path != "/account/profile":
            assert status == 403, (path, status)


def test_nobody_sees_anothers_film(site: Site):
    alice = site.browser("alice")
    order(alice, "a film of Alice's")
    film = alice.page.text.split('href="/films/video_')[1].split('"')[0]
    bob = site.browser("bob")
    bob.get("/account")
    paths = ["", "/card", "/receipt", "/video", "/thumbnail"]
    assert {bob.get(f"/films/video_{film}{path}").status_code for path in paths} == {404}
    assert bob.get(f"/films/live?id=video_{film}").status_code == 404
    assert bob.get(f"/studio?from=video_{film}").status_code == 404
    bob.get("/account/projects")
    assert bob.send(f"/films/video_{film}/cancellation").status_code == 404
    assert "Alice" not in bob.get("/films").text


def alices_objects(site: Site) -> dict[str, str]:
    """Create objects of Alice's; return their ids by path parameter."""
    alice = site.browser("alice")
    account = site.accounts["alice"]
    with transaction() as session:
        key = issue_key(session, account, scopes=["videos", "webhooks"])[1]
        caller = authenticate(session, key)
        endpoint = create_endpoint(session, caller, EndpointCreate(url="https://example.com/hook")).id
        project = create_project(session, account, "Alice's").id
        invitation = create_invitation(session, account, "friend@example.com", roles=["creator"], by="alice")[0].id
        member = list_members(session, account)[0].id
    order(alice, "a film of Alice's")
    with transaction() as session:
        [job] = session.scalars(select(Job))
        [delivery] = session.scalars(select(Delivery))
        asset = add_asset(session, new_asset(OwnerIds(account), filename="a.png"))
        return {
            "video_id": job.id,
            "shot": "0",
            "position": "0",
            "job_id": job.id,
            "endpoint_id": endpoint,
            "delivery_id": delivery.id,
            "asset_id": asset.id,
            "key_id": str(caller.key_id),
            "project_id": project,
            "member_id": member,
            "invitation_id": invitation,
            "variant": "video",
        }


def test_no_page_shows_another_accounts_objects(site: Site):
    things = alices_objects(site)
    bob = site.browser("bob")
    bob.get("/account/projects")
    form_page, seen = bob.page, 0
    for method in ("GET", "POST"):
        for path in private(method):
            names = set(re.findall(r"{(\w+)}", path))
            if not names or path.startswith("/admin"):
                continue
            assert names <= set(things), f"{path}: add an object of Alice's to alices_objects()"
            seen += 1
            filled = re.sub(r"{(\w+)}", lambda match: things[match[1]], path)
            bob.page = form_page
            answer = bob.get(filled) if method == "GET" else bob.send(filled, {"roles": "creator", "shot": "0"})
            assert answer.status_code == 404, (method, path, answer.status_code, bob.text()[:200])
    assert seen > 20


def order(browser: Browser, prompt: str) -> None:
    browser.get("/studio")
    answer = browser.send(
        "/studio/orders",
        {"shot_prompt": prompt, "shot_seconds": "1", "model": "synthetic", "resolution": "480P", "ratio": "16:9"},
    )
    assert answer.url.path == "/studio", browser.text()
