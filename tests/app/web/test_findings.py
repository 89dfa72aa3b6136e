"""Findings of a review of the pages: each was a page that said something wrong, or nothing."""

import re
from pathlib import Path

import pytest

import app.web
from app.accounts.members import caller_by_id, list_members
from app.db import transaction
from app.dispatch.worker_registry import register_worker
from app.web.account.webhooks import sample_outcome
from app.webhooks.schemas import SampleOut
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order
from tests.app.webhooks.factories import open_endpoint
from tests.repo.catalogues import DOMAINS, read_catalogue

STORYBOARD = {"shot_prompt": ["one", "two"], "shot_seconds": ["1", "2"], "shot_transition": ["cut", "cut"]}


def storyboard(browser: Browser) -> str:
    return order(browser, **STORYBOARD)


def test_posters_of_every_ratio_are_whole():
    css = (Path(app.web.__file__).parent / "static/css/studio.css").read_text(encoding="utf-8")
    rule = re.search(r"\.film-frame img \{([^}]*)\}", css)[1]
    # In an automatic grid row `height: 100%` is the picture's own height, so that it would be cut off.
    for declaration in ("position: absolute", "inset: 0", "object-fit: contain"):
        assert declaration in rule


BANNED = (
    *("Write it down", "Take back", "Leave it", "Take it along", "Take along", "Make something of it", "Use again"),
    *("The bytes that replay", "Not for you", "Not here", "To the start", "Films kept", "to play with", "Kept until"),
    *("Half waited", "Of 100 waited", "Look it over", "Money moved", "Who did what", "Order it"),
    *("Wait for another", "What to avoid", "Begins with a", "First picture", "Last picture", "Every act of", "Came in"),
    *("chain of seals", "Give back", "by chance", "Takes at once", "You can spend", "Open a project", "Make a key"),
    *("Budget in all", "Most for one film", "Deliver again", "Winners", "Losers", "The surcharge drops"),
    *("How the price comes about", "The cheapest that can", "In fair order", "Somebody other"),
)
# Words that have no other meaning on a page, apart from the terms beside them.
BANNED_WORDS = re.compile(
    r"(?<!small )letters?\b|(?<!IP )(?<!e-mail )address(?:es)?\b|\bacts?\b|\bways?\b|\brings?\b|\bpieces?\b|\bpaper\b",
    re.IGNORECASE,
)


def banned(text: str) -> list[str]:
    """Return what a text has of the words that the review bans."""
    return [words for words in BANNED if words.lower() in text.lower()] + BANNED_WORDS.findall(text)


def test_the_words_that_the_review_bans_are_found():
    assert banned("Leave it, or write a letter to this address") == ["Leave it", "letter", "address"]
    assert banned("Small letters of the e-mail address, always") == []


def test_no_page_has_a_word_that_the_review_bans():
    """Catalogues hold every text of pages, scripts and errors; templates also what nobody marked as a text."""
    for path in (Path(app.web.__file__).parent / "templates").rglob("*.html"):
        text = re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert banned(text) == [], path
    for domain in DOMAINS:
        for message in read_catalogue("zh", domain):
            texts = (message.id,) if isinstance(message.id, str) else message.id
            assert [found for text in texts for found in banned(text)] == [], texts


@pytest.mark.parametrize("path", ["/account/nothing", "/admin/prices", "/nothing/at/all"])
def test_an_unknown_path_keeps_the_menu(site: Site, path: str):
    browser = site.browser("alice")
    assert browser.get(path).status_code == 404
    assert "Page not found" in browser.text()
    assert 'href="/studio"' in browser.page.text
    assert "Sign in" not in browser.text()
    stranger = site.browser()
    stranger.get(path)
    assert "Sign in" in stranger.text()


def test_the_console_shows_what_films_were_charged(site: Site):
    alice, browser = site.browser("alice"), site.browser("author")
    film = order(alice)
    account = f"/admin/accounts/{site.accounts['alice']}"
    for page in ("/admin/films", account):
        browser.get(page)
        assert "¥0.44 held" in browser.text()
    alice.get(film)
    alice.send(f"{film}/cancellation")
    for page in ("/admin/films", account):
        browser.get(page)
        assert "Quoted ¥0.44 ¥0.00" in browser.text()
        assert '<del class="faint">' in browser.page.text


@pytest.mark.parametrize(
    ("status", "fault", "sentence"),
    [
        (200, None, "Delivered: 200 in 84 ms."),
        (500, None, "Not delivered: the endpoint answered 500 in 84 ms."),
        (0, "unreachable", "Not delivered: the host cannot be reached in 84 ms."),
    ],
)
def test_a_test_event_says_whether_it_was_delivered(status: int, fault: str | None, sentence: str):
    attempt = dict.fromkeys(("ip", "dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "retry_after_seconds"))
    attempt |= {"id": "a", "trigger": "test", "started_at": 1, "status_code": status or None, "fault": fault}
    result = {"status_code": status, "success": status == 200, "event_id": "e", "delivery_id": "d"}
    sample = SampleOut.model_validate({**result, "attempt": {**attempt, "total_ms": 84, "excerpt": ""}})
    assert sample_outcome(sample) == sentence


def test_a_test_event_that_reaches_nobody_is_a_plain_page(site: Site):
    with transaction() as session:
        owner = caller_by_id(session, list_members(session, site.accounts["alice"])[0].id)
        endpoint = open_endpoint(session, owner, "https://nothing.invalid/hook").id
    browser = site.browser("alice")
    browser.get("/account/webhooks")
    browser.send(f"/account/webhooks/{endpoint}/sample", {"event_type": "video.completed"})
    assert "Not delivered: the host cannot be reached" in browser.text()
    for raw in ("Success", "False", "started at:", "excerpt:"):
        assert raw not in browser.text()


def test_a_key_without_a_permission_is_refused_in_the_forms_words(site: Site):
    browser = site.browser("alice")
    browser.get("/account/keys")
    assert browser.send("/account/keys", {"name": "farm", "mode": "live"}).status_code == 422
    assert "Tick at least one permission." in browser.text()
    assert "admin" not in browser.text()


def test_a_retake_says_which_seconds_are_new_and_which_are_free(site: Site):
    browser = site.browser("alice")
    film = storyboard(browser)
    site.work()
    browser.get(film)
    assert "reused, free" not in browser.text()
    again = browser.send(f"{film}/variations", {"kind": "retake", "shot": "1", "prompt": "another"}).url.path
    site.work()
    browser.get(again)
    assert "3 s delivered: 2 s new; 1 s reused, free" in browser.text().replace("\xa0", " ")


def test_a_long_prompt_shows_four_lines_and_all_on_demand(site: Site):
    browser = site.browser("alice")
    browser.get(order(browser, shot_prompt="a very long prompt " * 200))
    assert '<details class="disclose small"><summary>Show all</summary></details>' in browser.page.text
    browser.get(order(browser, shot_prompt="a short one"))
    assert "Show all" not in browser.text()


def test_the_last_worker_is_not_drained_without_a_question(site: Site):
    browser = site.browser("author")
    with transaction() as session:
        for name, pools in (("w-1", ["finish", "demo"]), ("w-2", ["finish"])):
            register_worker(session, name, pools=pools, host="h", pid=1, device="cpu", facts={})
    browser.get("/admin/workers")
    forms = re.findall(r'<form method="post" action="/admin/workers/(w-\d)/drain"([^>]*)>', browser.page.text)
    questions = dict(forms)
    assert "This is the last worker of demo." in questions["w-1"]
    assert "data-confirm" not in questions["w-2"]
    order(site.browser("alice"))
    for page in ("/admin/workers", "/admin"):
        browser.get(page)
        assert "No worker serves synthetic, and work waits there." in browser.text()


def test_the_price_page_sorts_memberships_by_price_and_names_turbo_models(site: Site):
    browser = site.browser()
    browser.get("/prices")
    table = browser.page.text.split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    prices = [[float(each) for each in re.findall(r">¥([\d.]+)</span>", row)] for row in rows]
    assert len(prices) > 2
    assert prices == sorted(prices, reverse=True)
    assert "Turbo models 720P" in browser.text()
    assert "*-turbo" not in browser.text()
