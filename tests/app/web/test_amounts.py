"""Amounts in forms: a comma is never skipped in silence, and a top-up is reviewed and has a ceiling."""

import pytest

from app.accounts.accounts import create_account
from app.accounts.members import add_member
from app.accounts.projects import create_project
from app.accounts.tables import Member
from app.audit_log.log import list_entries
from app.db import transaction
from app.errors import AppError
from app.wallet.balance import balance
from app.web.forms import parse_form_amount
from tests.app.web.conftest import _HASH, Browser, Site
from tests.app.web.test_console import fields


@pytest.mark.parametrize(
    ("text", "minor"),
    [("12", 1_200), ("12.5", 1_250), ("¥ 1,234.50", 123_450), ("1,234,567", 123_456_700), ("0.07", 7)],
)
def test_an_amount_is_read_as_written(text: str, minor: int):
    assert parse_form_amount(text, "CNY", "amount") == minor


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("12,5", "Write 12.50"),
        ("1,5", "Write 1.50"),
        ("0,07", "Write 0.07"),
        ("1.234,50", "Write it as"),
        ("0,500", ""),
    ],
)
def test_a_decimal_comma_is_refused_with_how_to_write_it(text: str, instead: str):
    with pytest.raises(AppError, match="is not an amount") as refusal:
        parse_form_amount(text, "CNY", "amount")
    assert instead in refusal.value.message
    for odd in ("1,2,3", "1,2345", ",50", "12,", "1 2", "１２，５"):
        with pytest.raises(AppError):
            parse_form_amount(odd, "CNY", "amount")


def test_every_form_refuses_a_decimal_comma(site: Site):
    alice, author = site.browser("alice"), site.browser("author")
    bob = f"/admin/accounts/{site.accounts['bob']}"
    with transaction() as session:
        project = create_project(session, site.accounts["alice"], "Spring").id
    key = {"name": "farm", "scopes": ["videos"]}
    for browser, page, path, form in (
        (alice, "/account/keys", "/account/keys", {**key, "budget_total": "12,5"}),
        (alice, "/account/keys", "/account/keys", {**key, "job_cap": "12,5"}),
        (alice, "/account/projects", "/account/projects", {"name": "Autumn", "budget": "12,5"}),
        (alice, "/account/projects", f"/account/projects/{project}/budget", {"budget": "12,5"}),
        (alice, "/account", "/account/low-balance", {"amount": "12,5"}),
        (author, bob, f"{bob}/top-up", {"amount": "12,5", "kind": "purchased", "reference": "r"}),
        (author, bob, f"{bob}/correction", {"amount": "12,5", "reason": "r"}),
        (author, bob, f"{bob}/limits", {"credit_limit": "12,5"}),
    ):
        browser.get(page)
        assert browser.send(path, form).status_code == 422, (path, form)
        assert "Write 12.50, with a point" in browser.text()


def funds(site: Site) -> int:
    with transaction() as session:
        return balance(session, site.accounts["bob"]).available


def request_top_up(browser: Browser, path: str, amount: str, reference: str = "invoice 7") -> str:
    """Submit the form and its review, and return what the review page showed."""
    browser.get(path)
    browser.send(f"{path}/top-up", {"amount": amount, "kind": "purchased", "reference": reference})
    review = browser.text()
    browser.send(f"{path}/top-up", fields(browser))
    return review


def test_a_top_up_is_reviewed_and_moves_no_money_before(site: Site):
    browser, path, before = site.browser("author"), f"/admin/accounts/{site.accounts['bob']}", funds(site)
    browser.get(path)
    browser.send(f"{path}/top-up", {"amount": "12.50", "kind": "granted", "reference": "r", "reason": "a gift"})
    assert "Nothing has changed yet." in browser.text()
    assert "¥12.50 of granted credit are added" in browser.text()
    assert funds(site) == before
    confirmed = fields(browser)
    for _ in range(2):
        browser.send(f"{path}/top-up", confirmed)
        assert "The amount was added to the wallet." in browser.text()
    assert funds(site) == before + 1_250


def test_a_sole_operator_tops_up_above_the_ceiling_and_the_audit_log_says_so(site: Site):
    browser, before = site.browser("author"), funds(site)
    request_top_up(browser, f"/admin/accounts/{site.accounts['bob']}", "100,000.01")
    assert funds(site) == before + 10_000_001
    with transaction() as session:
        entry = next(each for each in list_entries(session) if each.act == "wallet.topped_up")
        assert (entry.facts["sole_operator"], entry.facts["requested_by"]) == (True, entry.actor)


def second_operator(site: Site) -> Browser:
    with transaction() as session:
        account = create_account(session, "Second")
        member: Member = add_member(session, account.id, "second@example.com", roles=["operator"], name="second")
        member.password_hash = _HASH
    return site.browser("second")


def test_above_the_ceiling_a_second_operator_approves(site: Site):
    first, second = site.browser("author"), second_operator(site)
    path, before = f"/admin/accounts/{site.accounts['bob']}", funds(site)
    assert "are requested; another operator approves it" in request_top_up(first, path, "1000000000000")
    assert "The top-up was requested." in first.text()
    assert "needs another operator" in first.text()
    request_top_up(first, path, "1000000000000")
    assert funds(site) == before, "the same operator twice is still one operator"
    second.get(path)
    [approval] = {each for each in second.page.text.split('"') if each.endswith("/approval")}
    assert first.send(approval).status_code == 403
    for _ in range(2):
        second.send(approval)
    assert funds(site) == before + 10**14
    with transaction() as session:
        acts = [each.act for each in list_entries(session)]
        assert acts[:2] == ["wallet.topped_up", "wallet.top_up_requested"]
    first.get(path)
    assert "wait for a second operator" not in first.text()


def test_a_request_is_withdrawn_and_corrections_do_not_go_round_the_ceiling(site: Site):
    first, path, before = site.browser("author"), f"/admin/accounts/{site.accounts['bob']}", funds(site)
    second = second_operator(site)
    request_top_up(first, path, "200000")
    [withdrawal] = {each for each in first.page.text.split('"') if each.endswith("/withdrawal")}
    first.send(withdrawal)
    assert "The top-up was withdrawn." in first.text()
    assert second.send(withdrawal.replace("withdrawal", "approval")).status_code in (403, 409)
    second.get(path)
    assert second.send(withdrawal.replace("withdrawal", "approval")).status_code == 409
    request_top_up(first, path, "200000")
    assert "was withdrawn. Use another reference" in first.text()
    first.get(path)
    first.send(f"{path}/correction", {"amount": "200000", "direction": "give", "reason": "r"})
    first.send(f"{path}/correction", fields(first))
    assert "A correction adds at most 100000.00" in first.text()
    assert funds(site) == before
