"""Rejected forms: the page shows the error and keeps what was typed."""

import re

import pytest

from app.accounts.invitations import create_invitation
from app.accounts.members import list_members
from app.accounts.projects import create_project
from app.accounts.tables import Member
from app.db import transaction
from app.web.forms import SubmittedForm
from tests.app.web.conftest import PASSWORD, Browser, Site


def value(browser: Browser, name: str, marker: str = "") -> str:
    """Return a field's value on the last page; `marker` is a text before the field's form."""
    page = browser.page.text.partition(marker)[2] if marker else browser.page.text
    tag = re.search(rf'<input [^>]*name="{name}"[^>]*>', page)[0]
    return re.search(r'value="([^"]*)"', tag)[1]


def ticked(browser: Browser, marker: str = "") -> set[str]:
    page = browser.page.text.partition(marker)[2].partition("</form>")[0]
    return set(re.findall(r'value="([^"]*)"(?: aria-describedby="[^"]*")? checked', page))


def test_a_refused_key_is_not_typed_twice(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        project = create_project(session, site.accounts["alice"], "Spring").id
    browser.get("/account/keys")
    form = {"name": "farm", "scopes": ["billing"], "mode": "test", "project": project, "job_cap": "much"}
    assert browser.send("/account/keys", {**form, "budget_total": "12"}).status_code == 422
    typed = {name: value(browser, name, 'action="/account/keys"') for name in ("name", "budget_total", "job_cap")}
    assert typed == {"name": "farm", "budget_total": "12", "job_cap": "much"}
    assert ticked(browser, 'action="/account/keys"') == {"billing", "test"}
    assert f'value="{project}" selected' in browser.page.text


def test_a_refused_endpoint_is_not_typed_twice_and_selected_events_replace_all(site: Site):
    browser = site.browser("alice")
    browser.get("/account/webhooks")
    assert ticked(browser, 'action="/account/webhooks"') == {"*"}
    form = {"url": "ftp://hooks.example.com/a", "name": "Films", "event_types": ["*", "video.failed"]}
    assert browser.send("/account/webhooks", form).status_code == 422
    assert (value(browser, "url"), value(browser, "name")) == (form["url"], "Films")
    assert 'value="video.failed" checked' in browser.page.text
    browser.send("/account/webhooks", {**form, "url": "https://hooks.example.com/a"})
    browser.get("/account/webhooks")
    table = browser.page.text.partition("<tbody>")[2].partition("</tbody>")[0]
    assert "<td>video.failed</td>" in table


def test_a_refused_project_or_budget_is_shown_on_the_same_page(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        project = create_project(session, site.accounts["alice"], "Spring").id
    browser.get("/account/projects")
    assert browser.send("/account/projects", {"name": "Autumn", "budget": "much"}).status_code == 422
    assert (value(browser, "name"), value(browser, "budget", "New project")) == ("Autumn", "much")
    assert browser.send(f"/account/projects/{project}/budget", {"budget": "little"}).status_code == 422
    assert "is not an amount" in browser.text()
    assert value(browser, "budget", f'action="/account/projects/{project}/budget"') == "little"
    assert value(browser, "budget", "New project") == ""


def test_a_refused_invitation_role_or_limit_is_shown_on_the_same_page(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        (alice,) = list_members(session, site.accounts["alice"])
        _, token = create_invitation(
            session, site.accounts["alice"], "guest@example.com", roles=("creator",), by="alice"
        )
    browser.get("/account/members")
    browser.send("/account/members", {"email": "carl", "roles": ["owner"]})
    assert value(browser, "email") == "carl"
    assert ticked(browser, "Invite a member") == {"owner"}
    assert browser.send(f"/account/members/{alice.id}/roles", {"roles": ["creator"]}).status_code == 409
    assert "at least one owner" in browser.text()
    assert ticked(browser, f'action="/account/members/{alice.id}/roles"') == {"creator"}
    browser.get("/account")
    assert browser.send("/account/low-balance", {"amount": "soon"}).status_code == 422
    assert value(browser, "amount") == "soon"
    assert "Wallet" in browser.text()
    guest = site.browser()
    guest.get(f"/invitations/{token}")
    guest.send(f"/invitations/{token}", {"name": "Guest", "password": "short"})
    assert value(guest, "name") == "Guest"
    assert guest.send(f"/invitations/{token}", {"name": "Guest", "password": PASSWORD}).url.path == "/studio"
    with transaction() as session:
        assert session.query(Member).filter_by(email="guest@example.com").one().name == "Guest"


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("top-up", {"amount": "ten", "reference": "invoice 7", "reason": "paid", "expires_at": "2030-01-01T00:00"}),
        ("limits", {"concurrency": "many", "queue_limit": "7", "credit_limit": "5"}),
        ("correction", {"amount": "ten", "reason": "a slip"}),
    ],
)
def test_a_refused_operator_action_is_not_typed_twice(site: Site, action: str, form: dict[str, str]):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    browser.get(account)
    assert browser.send(f"{account}/{action}", form).status_code == 422
    assert {name: value(browser, name, f'action="{account}/{action}"') for name in form} == form


def test_an_account_that_is_refused_is_not_typed_twice(site: Site):
    browser = site.browser("author")
    browser.get("/admin/accounts")
    assert browser.send("/admin/accounts", {"name": "Carol", "email": "nobody", "kind": "invoiced"}).status_code == 422
    assert (value(browser, "name"), value(browser, "email")) == ("Carol", "nobody")
    assert 'value="invoiced" selected' in browser.page.text


def test_every_top_up_form_has_its_own_reference(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    browser.get(account)
    first = value(browser, "reference")
    browser.get(account)
    assert value(browser, "reference") != first


def test_without_a_form_the_page_shows_its_defaults():
    assert (SubmittedForm().text("name", "as it was"), SubmittedForm().has("box", "a", True)) == ("as it was", True)
