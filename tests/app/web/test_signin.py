"""Sign-in: passwords, sessions, password links, invitations, and cross-site requests."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from html import unescape

import pytest
from httpx2 import Client, TransportError
from sqlalchemy import update

from app.accounts.invitations import create_invitation
from app.accounts.members import add_member, list_members
from app.db import transaction
from app.redis_client import get_redis
from app.settings import child_environment, get_settings
from app.web.headers import page_headers
from app.web.password_links import welcome_links
from app.web.sessions import IDLE_MAX
from app.web.tables import WebSession
from tests.app.log_lines import lines_of
from tests.app.web.conftest import PASSWORD, Site


def path_of(link: str) -> str:
    return link.removeprefix(get_settings().base_url())


def test_a_member_signs_in_and_out(site: Site):
    browser = site.browser()
    assert "wrong" in browser.sign_in("alice@example.com", "not this one").text
    answer = browser.sign_in("alice@example.com")
    assert (answer.url.path, answer.status_code) == ("/studio", 200)
    cookies = dict(browser.client.cookies)
    browser.send("/sign-out")
    assert browser.get("/studio").url.path == "/sign-in"
    # A copied cookie ends with the session too.
    browser.client.cookies.update(cookies)
    assert browser.get("/studio").url.path == "/sign-in"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site, monkeypatch: pytest.MonkeyPatch):
    browser = site.browser()
    browser.get("/sign-in")
    form = {"email": "alice@example.com", "password": PASSWORD}
    headers = {"sec-fetch-site": "same-origin"}
    plain = browser.client.post("/sign-in", data=form, headers=headers, follow_redirects=False)
    assert {"httponly", "samesite=lax", "path=/"} <= set(plain.headers["set-cookie"].lower().split("; "))
    monkeypatch.setenv("CINEMETER_PUBLIC_URL", "https://films.example.com")
    get_settings.cache_clear()
    page_headers.cache_clear()
    secure = browser.client.post("/sign-in", data=form, headers=headers, follow_redirects=False)
    assert secure.headers["set-cookie"].startswith("__Host-cinemeter=")
    assert "secure" in secure.headers["set-cookie"].lower().split("; ")
    assert "domain" not in secure.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("headers", "has_token"),
    [
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "", "origin": "https://evil.example"}, True),
        ({"sec-fetch-site": "same-origin"}, False),
    ],
)
def test_a_cross_site_form_changes_nothing(site: Site, headers: dict[str, str], has_token: bool):
    browser = site.browser("alice")
    browser.get("/account/projects")
    form = {"name": "forged"} if has_token else {"name": "forged", "csrf": "guessed"}
    assert browser.send("/account/projects", form, **headers).status_code == 403
    browser.get("/account/projects")
    assert "forged" not in browser.text()


def test_each_page_has_a_csrf_token_of_its_own_and_all_are_right(site: Site):
    browser = site.browser("alice")
    tokens = [re.findall(r'name="csrf" value="([^"]*)"', browser.get("/studio").text)[0] for _ in range(3)]
    assert len(set(tokens)) == 3
    mask, masked = (bytes.fromhex(part) for part in (tokens[0][:40], tokens[0][40:]))
    unmasked = bytes(a ^ b for a, b in zip(mask, masked, strict=True)).hex()
    other = f"{unmasked[:-2]}{int(unmasked[-2:], 16) ^ 1:02x}"
    wrong = [other, tokens[0][:40] + tokens[1][40:], "0" * 40, "0" * 80, "é"]
    for token, status in [*((right, 200) for right in [*tokens, unmasked]), *((each, 403) for each in wrong)]:
        headers = {"sec-fetch-site": "same-origin"}
        answer = browser.client.post("/theme", data={"csrf": token, "theme": "dark", "next": "/"}, headers=headers)
        assert answer.status_code == status, token


def test_the_api_does_not_accept_the_cookie(site: Site):
    assert site.browser("alice").client.get("/v1/videos").status_code == 401


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_redirect_after_the_sign_in_stays_on_this_site(site: Site, path: str):
    browser = site.browser()
    form = {"email": "alice@example.com", "password": PASSWORD, "next": path}
    answer = browser.client.post(
        "/sign-in", data=form, headers={"sec-fetch-site": "same-origin"}, follow_redirects=False
    )
    assert answer.headers["location"] == "/studio"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/中", "/%E4%B8%AD"),
        ("/films/video_x?after=%E4%B8%AD&n=1#reel", "/films/video_x?after=%E4%B8%AD&n=1#reel"),
    ],
)
def test_the_redirect_after_the_sign_in_may_contain_any_script(site: Site, path: str, location: str):
    browser = site.browser("alice")
    answer = browser.client.get("/sign-in", params={"next": path}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, location)
    quick = browser.client.get("/sign-in", params={"next": path}, headers={"hx-request": "true"})
    assert (quick.status_code, quick.headers["hx-redirect"]) == (204, location)


@pytest.mark.parametrize("token", ["x.²", "x." + "9" * 5_000, "x.", "x.²." + "a" * 32, "²"])
def test_a_malformed_first_run_link_is_refused(site: Site, token: str):
    answer = site.browser().get(f"/welcome/{token}")
    assert answer.status_code == 404
    assert "has expired" in answer.text


def test_the_redirect_after_the_sign_in_keeps_its_query(site: Site):
    browser = site.browser()
    browser.get("/films?search=a+red+circle&state=completed")
    wanted = unescape(re.search(r'name="next" value="([^"]*)"', browser.page.text)[1])
    assert wanted == "/films?search=a+red+circle&state=completed"
    answer = browser.send("/sign-in", {"email": "alice@example.com", "password": PASSWORD, "next": wanted})
    assert (answer.url.path, "a red circle" in answer.text) == ("/films", True)
    assert site.browser().get(f"/films?search={'x' * 600}").url.params["next"] == "/films"


@pytest.mark.parametrize(
    "trusted", ["127.0.0.1", *(pytest.param(value, marks=pytest.mark.deep) for value in ("", "192.0.2.0/24"))]
)
def test_only_a_trusted_proxy_names_the_address_that_is_counted(site: Site, trusted: str):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = child_environment(trusted_proxies=trusted, port=port)
    api = subprocess.Popen([sys.executable, "-m", "app.cli.serve", "api"], env=environment)
    try:
        with Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_ready(client, api)
            for number in range(4):
                headers = {"x-forwarded-for": f"198.51.100.{number}", "sec-fetch-site": "same-origin"}
                form = {"email": f"guess{number}@example.com", "password": "a guess"}
                assert client.post("/sign-in", data=form, headers=headers).status_code == 401
    finally:
        api.terminate()
        api.wait(30)
    # One counter for each address that was tried, and one for each machine that tried.
    counters = len(list(get_redis().scan_iter("cinemeter:sign-in:*")))
    assert counters == (4 + 4 if trusted == "127.0.0.1" else 4 + 1)


def wait_until_ready(client: Client, api: subprocess.Popen[bytes]) -> None:
    while api.poll() is None:
        with contextlib.suppress(TransportError):
            client.get("/healthz")
            return
        threading.Event().wait(0.05)
    raise AssertionError("the API ended before it was ready")


def test_a_session_ends_when_it_is_idle(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        session.execute(update(WebSession).values(seen_at=WebSession.seen_at - IDLE_MAX - timedelta(minutes=1)))
    assert browser.get("/studio").url.path == "/sign-in"


def test_a_new_password_ends_the_other_sessions(site: Site):
    here, there = site.browser("alice"), site.browser("alice")
    here.get("/account/profile")
    here.send("/account/profile/password", {"current": "wrong one here", "password": "another long one"})
    assert "wrong" in here.text()
    here.send("/account/profile/password", {"current": PASSWORD, "password": "another long one"})
    assert "Your password was changed" in here.text()
    assert here.get("/studio").url.path == "/studio"
    assert there.get("/studio").url.path == "/sign-in"


def test_a_first_run_link_works_once(site: Site):
    with transaction() as session:
        add_member(session, site.accounts["alice"], "new@example.com", roles=("creator",))
        link = path_of(welcome_links(session)["new@example.com"])
    browser = site.browser()
    assert browser.get(link[:-2] + "xx").status_code == 404
    assert "new@example.com" in browser.get(link).text
    assert "10 to 1024" in browser.send(link, {"password": "short"}).text
    assert browser.send(link, {"password": PASSWORD}).url.path == "/studio"
    assert site.browser().get(link).status_code == 404


def test_an_operators_sign_in_link_works_once(site: Site):
    bob, operator = site.accounts["bob"], site.browser("author")
    lost, path = site.browser("bob"), f"/admin/accounts/{bob}"
    page = operator.get(path).text
    link_path = re.search(rf"{path}/members/member_\w+/link", page)[0]
    operator.send(link_path)
    link = path_of(re.search(r'<code id="link">([^<]+)</code>', operator.page.text)[1])
    assert link not in operator.get(path).text
    operator.get("/admin/trail")
    assert "member.link_given" in operator.text()
    browser = site.browser()
    assert browser.get(link[:-2] + "xx").status_code == 404
    assert "bob@example.com" in browser.get(link).text
    assert browser.send(link, {"password": "another long one"}).url.path == "/studio"
    # The old password, its sessions and the link no longer work.
    assert lost.get("/studio").url.path == "/sign-in"
    assert site.browser().sign_in("bob@example.com").status_code == 401
    assert site.browser().sign_in("bob@example.com", "another long one").url.path == "/studio"
    assert site.browser().get(link).status_code == 404
    assert "Forgot your password?" in site.browser().get("/sign-in").text


def test_a_sign_in_link_grants_no_more_than_its_author_has(site: Site):
    page = site.browser("approver")
    page.get(f"/admin/accounts/{site.accounts['bob']}")
    assert "New sign-in link" not in page.text()
    with transaction() as session:
        (bob,) = list_members(session, site.accounts["bob"])
        (approver,) = list_members(session, site.accounts["approver"])
    assert page.send(f"/admin/accounts/{bob.account_id}/members/{bob.id}/link").status_code == 403
    operator = site.browser("author")
    operator.get("/admin/accounts")
    answer = operator.send(f"/admin/accounts/{approver.account_id}/members/{approver.id}/link")
    assert (answer.status_code, 'id="link"' in answer.text) == (403, False)


def test_the_lines_of_a_visitor_name_the_account_and_no_person(site: Site):
    browser = site.browser("bob")
    with lines_of("cinemeter.requests") as lines:
        browser.get("/studio")
        browser.get("/no-such-page")
    assert {line["account_id"] for line in lines} == {site.accounts["bob"]}
    assert "bob@" not in str(lines)


def test_an_invitation_works_once(site: Site):
    with transaction() as session:
        _, token = create_invitation(session, site.accounts["bob"], "guest@example.com", roles=("creator",), by="bob")
    browser = site.browser()
    browser.get(f"/invitations/{token}")
    assert browser.send(f"/invitations/{token}", {"password": PASSWORD, "name": "Guest"}).url.path == "/studio"
    again = site.browser()
    assert again.get(f"/invitations/{token}").status_code == 404, (
        "a used invitation is refused before the form is filled in"
    )
    assert "was used" in again.send(f"/invitations/{token}", {"password": PASSWORD}).text
    with transaction() as session:
        _, token = create_invitation(session, site.accounts["bob"], "alice@example.com", roles=("creator",), by="bob")
    assert "already signs in with this e-mail address" in again.get(f"/invitations/{token}").text


def test_sign_up_works_only_where_it_is_open(site: Site, monkeypatch: pytest.MonkeyPatch):
    form = {"name": "Carol", "email": "carol@example.com", "password": PASSWORD}
    browser = site.browser()
    browser.get("/sign-up")
    assert "by invitation" in browser.text()
    assert browser.send("/sign-up", form).status_code == 403
    monkeypatch.setenv("CINEMETER_SIGNUP", "open")
    get_settings.cache_clear()
    browser.get("/sign-up")
    assert browser.send("/sign-up", form).url.path == "/studio"
    assert browser.send("/sign-up", {**form, "name": "Other"}).status_code == 409
