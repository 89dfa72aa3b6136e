"""Account pages: keys and secrets are shown once, members join and leave, and menus match roles."""

import re
from datetime import timedelta
from html import unescape
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update

from app.accounts.keys import list_keys
from app.accounts.members import list_members
from app.clock import now
from app.db import transaction
from app.jobs.cancel import request_cancel
from app.jobs.tables import Job
from app.settings import get_settings
from app.webhooks.tables import Delivery
from tests.app.web.conftest import PASSWORD, Site
from tests.app.web.test_console import fields
from tests.app.web.test_ends import order
from tests.app.webhooks.factories import answered, claim_due, finish
from workers.worker_loop import WorkerLoop


def test_a_key_is_shown_once_and_works(site: Site):
    browser = site.browser("alice")
    browser.get("/account/keys")
    browser.send("/account/keys", {"name": "farm", "scopes": ["videos"], "mode": "live", "job_cap": "1.00"})
    secret = re.search(r'<code id="secret">(cm_live_\w+)</code>', browser.page.text)[1]
    request = {"headers": {"authorization": f"Bearer {secret}"}}
    assert browser.client.get("/v1/videos", **request).status_code == 200
    assert browser.client.get("/v1/wallet", **request).status_code == 403
    browser.get("/account/keys")
    assert secret not in browser.page.text
    assert "¥1.00 per film" in browser.text()
    key = re.search(r"/account/keys/(\w+)/revocation", browser.page.text)[1]
    browser.send(f"/account/keys/{key}/rotation")
    fresh = re.search(r'<code id="secret">(cm_live_\w+)</code>', browser.page.text)[1]
    assert fresh != secret
    # The old key keeps working until it is revoked.
    assert browser.client.get("/v1/videos", **request).status_code == 200
    browser.send(f"/account/keys/{key}/revocation")
    assert browser.client.get("/v1/videos", **request).status_code == 401
    request["headers"]["authorization"] = f"Bearer {fresh}"
    assert browser.client.get("/v1/videos", **request).status_code == 200


def test_a_key_ends_when_its_form_said(site: Site):
    browser = site.browser("alice")
    browser.get("/account/keys")
    browser.send("/account/keys", {"name": "short", "scopes": ["videos"], "mode": "live", "expires": "7"})
    with transaction() as session:
        key = next(key for key in list_keys(session, site.accounts["alice"]) if key.name == "short")
        assert key.expires_at is not None
        assert timedelta(days=6) < key.expires_at - now(session) <= timedelta(days=7)
    assert "expires on" in browser.text()
    page = browser.send("/account/keys", {"name": "odd", "scopes": ["videos"], "mode": "live", "expires": "8"})
    assert page.status_code == 422
    assert "A key expires in 7, 30, 90, 365 days, or never." in browser.text()


def test_times_are_in_the_persons_zone_and_months_in_the_accounts(site: Site):
    browser = site.browser("alice")
    browser.get("/account/profile")
    browser.send("/account/profile/zone", {"zone": "America/New_York"})
    assert "<option selected>America/New_York</option>" in browser.page.text
    with transaction() as session:
        moment = now(session).astimezone(ZoneInfo("America/New_York"))
    browser.get("/account")
    assert f"{moment.day} {moment:%b %Y}" in browser.text()
    browser.get("/account/statements")
    assert "(Asia/Shanghai)" in browser.text()
    page = browser.send("/account/profile/zone", {"zone": "Mars/Base"})
    assert page.status_code == 422
    assert "'Mars/Base' is not a time zone such as Asia/Shanghai." in browser.text()


def test_usage_is_a_csv_too(site: Site):
    browser = site.browser("alice")
    film = order(browser, seconds="3")
    with transaction() as session:
        request_cancel(session, session.get_one(Job, film.removeprefix("/films/")))
        today = now(session).astimezone(ZoneInfo("Asia/Shanghai")).date()
    answer = browser.get("/account/usage.csv?days=7")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    head, line = answer.text.splitlines()
    assert head == "\ufeffday,project,model,films,seconds,list_price,charged,currency"
    assert line == f"{today},,synthetic,1,0,0.00,0.00,CNY"


def test_a_key_is_revoked_together_with_its_replacements(site: Site):
    browser = site.browser("alice")
    browser.get("/account/keys")
    browser.send("/account/keys", {"name": "leaked", "scopes": ["videos"], "mode": "live"})
    leaked = re.search(r'<code id="secret">(cm_live_\w+)</code>', browser.page.text)[1]
    answer = browser.client.post("/v1/keys/self/rotate", json={}, headers={"authorization": f"Bearer {leaked}"})
    stolen = answer.json()["secret"]
    browser.get("/account/keys")
    assert f"replaces …{leaked[-4:]}" in browser.text()
    key = answer.json()["id"]
    old = next(each for each in re.findall(r"/account/keys/(\w+)/revocation", browser.page.text) if each != key)
    browser.send(f"/account/keys/{old}/revocation", {"line": "1"})
    for secret in (leaked, stolen):
        headers = {"authorization": f"Bearer {secret}"}
        assert browser.client.get("/v1/videos", headers=headers).status_code == 401


def test_an_invalid_key_form_is_refused(site: Site):
    browser = site.browser("alice")
    browser.get("/account/keys")
    answer = browser.send("/account/keys", {"name": "farm", "scopes": ["videos"], "job_cap": "much"})
    assert (answer.status_code, "is not an amount" in browser.text()) == (422, True)
    browser.get("/account/keys")
    assert "No keys yet." in browser.text()


def test_an_endpoints_secret_is_shown_once_and_its_deliveries_are_resent(site: Site):
    browser = site.browser("alice")
    browser.get("/account/webhooks")
    browser.send("/account/webhooks", {"url": "https://hooks.example.com/film", "name": "Films"})
    secret = re.search(r"whsec_[A-Za-z0-9+/=]{20,}", browser.page.text)[0]
    order(browser)
    browser.get("/account/webhooks")
    endpoint = re.search(r"/account/webhooks/(whe_\w+)", browser.page.text)[0]
    browser.get(endpoint)
    assert secret not in browser.page.text
    first = re.search(r"/account/webhooks/deliveries/\w+", browser.page.text)[0]
    browser.get(first)
    assert "No attempts yet." in browser.text()
    with transaction() as session:
        finish(session, claim_due(session), answered(500))
        session.execute(update(Delivery).values(state="exhausted", ended_at=now(session), next_attempt_at=None))
    browser.get(first)
    assert "Response 500" in browser.text()
    assert "203.0.113.9" in browser.text()
    browser.send(f"{first}/redelivery")
    with transaction() as session:
        assert sorted(session.scalars(select(Delivery.trigger))) == ["auto", "manual"]
    assert site.browser("bob").get(endpoint).status_code == 404
    assert site.browser("bob").get(first).status_code == 404


@pytest.mark.parametrize("base", ["https://films.example.com", ""])
def test_snippets_carry_the_callers_own_address(site: Site, monkeypatch: pytest.MonkeyPatch, base: str):
    browser = site.browser("alice")
    monkeypatch.setenv("CINEMETER_PUBLIC_URL", base)
    if base:  # The cookie's name changes with the scheme.
        browser.client.cookies.set("__Host-cinemeter", browser.client.cookies["cinemeter"])
    get_settings.cache_clear()
    browser.get("/account/connect")
    page = browser.page.text
    base_url = base or get_settings().base_url()
    for path in ("/v1/videos", "/v1&#34;", "/api/v1&#34;", "/mcp&#34;"):
        assert base_url + path in page


def test_a_member_is_invited_and_sees_only_what_a_creator_may(site: Site):
    owner = site.browser("alice")
    owner.get("/account/members")
    owner.send("/account/members", {"email": "carl@example.com", "roles": ["creator"]})
    invitation = re.search(r"http\S+(/invitations/[\w.-]+)", owner.page.text)[1]
    guest = site.browser()
    guest.get(invitation)
    guest.send(invitation, {"password": PASSWORD, "name": "Carl"})
    guest.get("/studio")
    page = guest.page.text
    assert "Available" not in guest.text()
    for hidden in ('href="/account"', 'href="/admin"', 'href="/account/members"'):
        assert hidden not in page
    guest.get("/account/profile")
    for hidden in ("/account/usage", "/account/keys", "/account/receipts"):
        assert f'href="{hidden}"' not in guest.page.text
        assert site.app.get(hidden, headers={"accept": "text/html"}, follow_redirects=False).status_code == 303
    assert guest.get("/account/keys").status_code == 403
    owner.get("/account/members")
    assert "Carl" in owner.text()
    with transaction() as session:
        carl = next(each for each in list_members(session, site.accounts["alice"]) if each.name == "Carl")
        assert carl.last_signed_in_at is not None
    owner.send(f"/account/members/{carl.id}/removal")
    assert guest.get("/studio").url.path == "/sign-in"


def test_a_worker_is_drained_from_the_console(site: Site):
    worker = WorkerLoop("worker-to-drain", ["finish", "synthetic"])
    worker.open()
    try:
        browser = site.browser("author")
        browser.get("/admin/workers")
        assert "worker-to-drain" in browser.text()
        browser.send("/admin/workers/worker-to-drain/drain", {"drain": "true"})
        assert "drain requested" in browser.text()
        approver = site.browser("approver")
        approver.get("/admin/workers")
        assert approver.send("/admin/workers/worker-to-drain/drain", {"drain": "false"}).status_code == 403
        browser.get("/admin/workers")
        browser.send("/admin/workers/worker-to-drain/drain", {"drain": "false"})
        assert "drain requested" not in browser.text()
    finally:
        worker.close()


def test_a_book_is_drafted_approved_scheduled_and_withdrawn(site: Site):
    author, approver = site.browser("author"), site.browser("approver")
    author.get("/admin/price-books/new")
    toml = unescape(re.search(r'<textarea name="toml" hidden>\n(.*?)</textarea>', author.page.text, re.DOTALL)[1])
    toml = toml.replace('name = "2026-04-27"', 'name = "2026-12-01"', 1)
    base = re.search(r'name="base" value="([^"]+)"', author.page.text)[1]
    wrong = toml.replace("[[rates]]", "[[fates]]")
    refused = author.send("/admin/price-books", {"toml": wrong, "note": "x", "base": base})
    assert refused.status_code == 422
    author.get("/admin/price-books/new")
    book = author.send("/admin/price-books", {"toml": toml, "note": "a new name", "base": base}).url.path
    assert "Needs approval by another admin." in author.text()
    content_hash = re.search(r'name="content_hash" value="([^"]+)"', approver.get(book).text)[1]
    author.get(book)
    assert author.send(f"{book}/approval", {"content_hash": content_hash}).status_code == 403
    approver.get(book)
    assert approver.send(f"{book}/approval", {"content_hash": "sha256:other"}).status_code == 409
    approver.get(book)
    approver.send(f"{book}/approval", {"content_hash": content_hash})
    assert approver.send(f"{book}/publication", {"effective_at": "2020-01-01T00:00"}).status_code == 422
    approver.get(book)
    approver.send(f"{book}/publication", {"effective_at": "2030-01-01T00:00"})
    assert "Nothing has changed yet." in approver.text()
    assert "No price per second changes." in approver.text()
    approver.send(f"{book}/publication", fields(approver))
    assert "1 Jan 2030, 00:00:00" in approver.text()
    approver.send(f"{book}/withdrawal", {"reason": "not now"})
    history = approver.text()
    for act in ("book.drafted", "book.approved", "book.scheduled", "book.withdrawn"):
        assert act in history
    assert "This book was withdrawn." in history
