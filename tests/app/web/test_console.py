"""The console: operator actions on accounts, films and deliveries, and their audit log entries."""

import re
from datetime import timedelta
from html import unescape

from sqlalchemy import select

from app.accounts.members import caller_by_id, list_members
from app.accounts.memberships import membership_at
from app.audit_log.log import list_entries
from app.clock import now
from app.db import transaction
from app.dispatch.worker_registry import register_worker
from app.reports.audit import audit_books
from app.wallet.balance import balance
from app.webhooks.tables import Delivery
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order
from tests.app.webhooks.factories import open_endpoint
from workers.engine.host_info import machine_facts


def audited_actions() -> list[str]:
    with transaction() as session:
        return [entry.act for entry in reversed(list_entries(session))][3:]


def test_an_operator_changes_an_account(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    browser.get(account)
    browser.send(f"{account}/membership", {"membership": "studio"})
    browser.send(f"{account}/membership", {"membership": "free"})
    browser.send(f"{account}/limits", {"concurrency": "3", "queue_limit": "", "credit_limit": "50"})
    browser.send(f"{account}/top-up", {"amount": "12.50", "kind": "purchased", "reference": "invoice 7"})
    assert "¥12.50 of purchased credit are added." in browser.text()
    browser.send(f"{account}/top-up", fields(browser))
    browser.send(f"{account}/suspension", {"reason": "asked to"})
    assert "Suspended" in browser.text()
    browser.send(f"{account}/reinstatement")
    with transaction() as session:
        assert membership_at(session, site.accounts["bob"], now(session) + timedelta(seconds=1)) == "free"
        assert balance(session, site.accounts["bob"]).available == 100_000 + 1_250 + 5_000
    assert audited_actions() == [
        *("account.membership_changed", "account.membership_changed", "account.limited", "wallet.credit_limited"),
        *("wallet.topped_up", "account.suspended", "account.reinstated"),
    ]


def test_an_operator_sets_the_visible_label_and_the_customer_sees_it(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    browser.get(account)
    assert "No visible label (the service's default)" in browser.text()
    browser.send(f"{account}/label", {"visible_label": "eu_icon"})
    assert "The visible label was changed." in browser.text()
    browser.send(f"{account}/label", {"visible_label": "huge"})
    assert "is no visible label" in browser.text()
    browser.send(f"{account}/declarations", {"declarations": "required"})
    assert '<option value="required" selected>' in browser.page.text
    assert audited_actions() == ["account.labelled", "account.declarations"]
    customer = site.browser("bob")
    customer.get("/account/profile")
    assert "AI icon (EU). New films show it in their pictures." in customer.text()
    customer.send("/account/profile/declaration", {"declared": "yes"})
    assert "for all files of the account: it may use them" in customer.text()
    customer.send("/account/profile/declaration", {"declared": ""})
    assert "An owner may declare once" in customer.text()


def test_an_account_is_found_by_its_members_addresses(site: Site):
    browser = site.browser("author")
    browser.get("/admin/accounts?search=BOB@example")
    assert "a member's e-mail" in browser.text()
    assert site.accounts["bob"] in browser.page.text
    assert site.accounts["alice"] not in browser.page.text
    browser.get("/admin/accounts?search=nobody@example")
    assert "No account matches." in browser.text()


def test_no_account_is_opened_for_an_email_that_is_in_use(site: Site):
    browser = site.browser("author")
    browser.get("/admin/accounts")
    form = {"name": "Second", "email": "Bob@example.com", "kind": "prepaid"}
    assert browser.send("/admin/accounts", form).status_code == 409
    assert "Somebody already signs in with this e-mail address." in browser.text()
    browser.get("/admin/accounts?search=Second")
    assert "No account matches." in browser.text()
    assert audited_actions() == []


def test_a_refused_action_shows_an_error_and_changes_nothing(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    for action, form, words in (
        ("top-up", {"amount": "ten", "reference": "x"}, "is not an amount"),
        ("top-up", {"amount": "10", "reference": ""}, "added only once"),
        ("membership", {"membership": "gold"}, "There is no membership"),
        ("limits", {"concurrency": "many"}, "whole number"),
        ("limits", {"concurrency": "2", "credit_limit": "-5"}, "at least"),
    ):
        browser.get(account)
        assert browser.send(f"{account}/{action}", form).status_code == 422, action
        assert words in browser.text()
    assert browser.send(f"{account}/nonsense").status_code == 404
    assert audited_actions() == []
    approver = site.browser("approver")
    approver.get(account)
    assert "Top up" not in approver.text()
    assert approver.send(f"{account}/top-up", {"amount": "10", "reference": "x"}).status_code == 403


def test_a_film_is_found_and_followed_from_the_console(site: Site):
    film = order(site.browser("alice"), shot_prompt="a film to look into")
    browser = site.browser("approver")
    for path in ("/admin/films", f"/admin{film}"):
        browser.get(path)
        assert "waiting, 0 %" in browser.text()
        assert "about" not in browser.text(), "nobody serves it, so nothing is promised"
    with transaction() as session:
        register_worker(session, "w-1", pools=["finish", "demo", "synthetic"], host="h", pid=1, device="cpu", facts={})
    for path in ("/admin/films", f"/admin{film}"):
        browser.get(path)
        assert re.search(r"waiting, 0 %, about \d+(–\d+)? (s|min)", browser.text())
    site.work()
    video = film.rsplit("/", 1)[-1]
    for search in (video, video[:12], site.accounts["alice"], "ALICE@example", "alice"):
        browser.get(f"/admin/films?search={search}")
        assert "a film to look into" in browser.text(), search
    for search in ("video_", "nothing like it", site.accounts["bob"], "bob@example", "look into"):
        browser.get(f"/admin/films?search={search}")
        assert "a film to look into" not in browser.text(), search
    browser.get(f"/admin{film}")
    page = browser.text()
    for words in ("video.created", "video.completed", "Shot 1, segment 1", "succeeded", "worker-in-test", "receipt 1"):
        assert words in page
    browser.get("/admin/workers")
    assert str(machine_facts("cpu")["name"]) in browser.text(), "the page shows each worker's device"


def test_a_film_is_cancelled_from_the_console_by_an_operator_only(site: Site):
    film = order(site.browser("alice"))
    approver = site.browser("approver")
    approver.get(f"/admin{film}")
    assert "Cancel film" not in approver.text()
    assert approver.send(f"/admin{film}/cancellation").status_code == 403
    assert audited_actions() == []
    browser = site.browser("author")
    browser.get(f"/admin{film}")
    assert browser.send("/admin/films/video_nobodys/cancellation").status_code == 404
    browser.get(f"/admin{film}")
    browser.send(f"/admin{film}/cancellation")
    assert "cancelled" in browser.text()
    assert audited_actions() == ["job.cancelled"]


def test_a_delivery_is_resent_from_the_console(site: Site):
    alice = site.browser("alice")
    with transaction() as session:
        owner = caller_by_id(session, list_members(session, site.accounts["alice"])[0].id)
        open_endpoint(session, owner, "https://hooks.example.com/one")
    order(alice)
    with transaction() as session:
        first = session.scalars(select(Delivery.id)).first()
    browser = site.browser("author")
    browser.get("/admin/deliveries")
    assert "video.created" in browser.text()
    browser.get(f"/admin/deliveries/{first}")
    assert "hooks.example.com" in browser.text()
    assert "No attempts yet." in browser.text()
    assert browser.send(f"/admin/deliveries/{first}/redelivery").status_code == 200
    assert audited_actions()[-1] == "delivery.repeated"


def fields(browser: Browser) -> dict[str, object]:
    """Return the hidden fields of the review page's form."""
    assert browser.page is not None
    form = next(each for each in re.findall(r"<form.*?</form>", browser.page.text, re.DOTALL) if 'name="sure"' in each)
    pairs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {name: unescape(value) for name, value in pairs}


def test_a_film_is_refunded_once_after_a_review(site: Site):
    film = order(site.browser("alice"))
    site.work()
    path, browser = f"/admin{film}", site.browser("author")
    browser.get(path)
    with transaction() as session:
        before = balance(session, site.accounts["alice"]).posted
    browser.send(f"{path}/refund", {"amount": "0.20", "reason": "it flickers & more"})
    review = browser.text()
    assert "¥0.20 for Alice" in review
    assert "it flickers & more" in review
    assert audited_actions() == []
    sure = fields(browser)
    for _ in range(2):
        browser.send(f"{path}/refund", sure)
    assert "The refund was added to the wallet." in browser.text()
    assert "it flickers & more" in browser.text()
    with transaction() as session:
        assert balance(session, site.accounts["alice"]).posted == before + 20
        assert audit_books(session) == []
    assert audited_actions() == ["job.refunded"]
    who = re.search(r"/admin/trail\?subject=\w+", browser.page.text)[0]
    browser.get(who)
    for words in ("job.refunded", "author@example.com", "it flickers & more"):
        assert words in browser.text()


def test_a_refund_beyond_the_charge_or_without_a_reason_is_refused(site: Site):
    film = order(site.browser("alice"))
    site.work()
    path, browser = f"/admin{film}", site.browser("author")
    for form, status, words in (
        ({"amount": "999", "reason": "all of it"}, 409, "can be refunded"),
        ({"amount": "0.10", "reason": ""}, 422, "Give a reason"),
        ({"amount": "much", "reason": "x"}, 422, "is not an amount"),
        ({"amount": "0.10", "reason": "x", "sure": "yes"}, 422, "start over"),
        ({"amount": "999", "reason": "x", "sure": "yes", "reference": "r"}, 409, ""),
    ):
        browser.get(path)
        assert browser.send(f"{path}/refund", form).status_code == status, form
        assert words in browser.text()
    assert audited_actions() == []
    approver = site.browser("approver")
    approver.get(path)
    assert "Refund," not in approver.text()
    assert approver.send(f"{path}/refund", {"amount": "0.10", "reason": "x"}).status_code == 403


def test_a_balance_is_adjusted_both_ways_after_a_review(site: Site):
    bob = site.accounts["bob"]
    path, browser = f"/admin/accounts/{bob}", site.browser("author")
    for direction, words in (("give", "is added to the wallet"), ("take", "is deducted from the wallet")):
        browser.get(path)
        amount = "3.00" if direction == "give" else "1.25"
        browser.send(f"{path}/correction", {"amount": amount, "direction": direction, "reason": f"to {direction}"})
        assert words in browser.text()
        browser.send(f"{path}/correction", fields(browser))
        assert "The balance was adjusted." in browser.text()
    assert "-¥1.25" in browser.text() or "−¥1.25" in browser.text()
    with transaction() as session:
        assert balance(session, bob).posted == 100_000 + 300 - 125
        assert audit_books(session) == []
    assert audited_actions() == ["wallet.corrected", "wallet.corrected"]


def new_contract(browser: Browser, account: str) -> str:
    """Return the text with which the form of a new contract starts."""
    browser.get(f"/admin/accounts/{account}/contracts/new")
    return unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", browser.page.text, re.DOTALL)[1])


def test_a_new_contract_starts_from_the_present_prices(site: Site):
    browser = site.browser("author")
    new_contract(browser, site.accounts["alice"])
    table = browser.page.text.partition("Price per second, membership")[2].partition("</table>")[0]
    rows = re.findall(r'<td class="number faint">([^<]+)</td><td class="number"><span class="faint">([^<]+)<', table)
    assert ("¥0.44", "¥0.44") in rows
    assert len(rows) == table.count("<th scope") - 3, "each price is as it was"
    assert all(before == after for before, after in rows)


def test_a_contract_is_previewed_while_it_is_edited(site: Site):
    alice, browser = site.accounts["alice"], site.browser("author")
    toml = new_contract(browser, alice).replace('"0.9"', '"0.8"')
    # A professional pays 0.44 per second of 720P; eight ninths of it by the contract.
    browser.send("/admin/contracts/check", {"account": alice, "toml": toml}, **{"hx-request": "true"})
    assert "720P ¥0.44 ¥0.39" in browser.text()
    new_contract(browser, alice)
    form = {"account": alice, "toml": toml.replace('"0.8"', "0.8")}
    browser.send("/admin/contracts/check", form, **{"hx-request": "true"})
    assert "2 problems" in browser.text()
    assert "per_second" in browser.text()


def test_a_contract_is_approved_and_scheduled_after_a_review(site: Site):
    author, approver = site.browser("author"), site.browser("approver")
    toml = new_contract(author, site.accounts["alice"]).replace('"0.9"', '"0.8"')
    path = f"/admin/accounts/{site.accounts['alice']}/contracts"
    contract = author.send(path, {"toml": toml, "note": "agreed"}).url.path
    approver.get(contract)
    [content_hash] = re.findall(r'name="content_hash" value="([^"]+)"', approver.page.text)
    approver.send(f"{contract}/approval", {"content_hash": content_hash})
    approver.send(f"{contract}/publication", {"effective_at": "2030-01-01T00:00"})
    assert "From 1 Jan 2030, 00:00:00 CST for Alice" in approver.text()
    assert "720P costs ¥0.39 per second instead of ¥0.44." in approver.text()
    assert audited_actions() == ["contract.drafted", "contract.approved"]
    approver.send(f"{contract}/publication", fields(approver))
    assert audited_actions() == ["contract.drafted", "contract.approved", "contract.scheduled"]
