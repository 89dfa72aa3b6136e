"""The form of the price book: fields and TOML text are two views of one draft, and nothing is lost between them."""

import dataclasses
import re
from datetime import timedelta
from fractions import Fraction
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.audit_log.actor import SYSTEM_ACTOR
from app.clock import now
from app.db import transaction
from app.prices.books import approve_book, draft_book, schedule_book
from app.prices.find import list_books, newest_book
from app.web.console.book_fields import TABLES
from pricing.book import parse_book
from pricing.money import round_to_minor
from pricing.price import per_second
from pricing.rate import Rate
from pricing.rate_key import RatePattern
from pricing.rules import Membership, Promotion
from pricing.usage import Customer, Usage
from pricing.window import Window
from tests.app.web.conftest import Browser, Site

PATH = "/admin/price-books"
CONTROL = re.compile(
    r"<input(?P<input>[^>]*)>|<textarea(?P<area>[^>]*)>\n?(?P<text>.*?)</textarea>|<select(?P<select>[^>]*)>(?P<options>.*?)</select>",
    re.DOTALL,
)


def attribute(tag: str, name: str) -> str:
    match = re.search(rf'\b{name}="([^"]*)"', tag)
    return unescape(match[1]) if match else ""


def submitted(browser: Browser, **changes: Any) -> dict[str, Any]:
    """Return what the editor's form submits as it is on the page, with changes by field path."""
    assert browser.page is not None
    form = browser.page.text.partition('<form id="edit"')[2].partition("</form>")[0]
    values: dict[str, Any] = {}
    for match in CONTROL.finditer(form):
        tag = match["input"] or match["area"] or match["select"]
        name = attribute(tag, "name")
        if match["area"]:
            values[name] = unescape(match["text"])
        elif match["select"]:
            selected = re.search(r'value="([^"]*)" selected', match["options"])
            values[name] = unescape((selected or re.search(r'value="([^"]*)"', match["options"]))[1])
        elif 'type="checkbox"' not in tag:
            values[name] = attribute(tag, "value")
        elif re.search(r"\bchecked\b", tag):
            values.setdefault(name, []).append(attribute(tag, "value"))
    return values | {name.replace("__", ".").replace("_0_", "[0]"): value for name, value in changes.items()}


def send(browser: Browser, then: str, changes: dict[str, Any] | None = None, path: str = PATH) -> str:
    """Press one of the editor's buttons with the form as it is on the page; return the page's text."""
    browser.send(path, {**submitted(browser), **(changes or {}), "then": then})
    return browser.text()


def toml_of(browser: Browser) -> str:
    return submitted(browser)["toml"]


def price_of_a_second(toml: str) -> str:
    """Return what a second at 720P costs a professional now, as text: an offer of the book may have ended."""
    book = parse_book(toml)
    with transaction() as session:
        moment = now(session)
    key = next(each for each in book.rates if each.id == "list-720p").pattern.sample_keys()[0]
    amount = per_second(book, Usage(key, Fraction(1)), Customer("professional"), moment)
    return f"¥{round_to_minor(amount, book.currency).text}"


def local_time(ahead: timedelta) -> str:
    """Return a moment from now on as the editor's date field submits it."""
    with transaction() as session:
        moment = now(session) + ahead
    return moment.astimezone(ZoneInfo("Asia/Shanghai")).strftime("%Y-%m-%dT%H:%M")


@pytest.fixture
def editor(site: Site) -> Browser:
    browser = site.browser("author")
    browser.get(f"{PATH}/new")
    return browser


def test_the_form_submits_the_text_as_it_is(editor: Browser):
    """What the form shows is what the text says: a form that nobody touched changes no byte of it."""
    before = toml_of(editor)
    assert "# How to read it" in before
    for then in ("check", "tab:toml", "tab:form"):
        send(editor, then)
        assert toml_of(editor) == before


def test_a_tier_changes_in_the_form_and_the_rest_of_the_text_stays(editor: Browser):
    before = toml_of(editor).replace('name = "2026-04-27"', 'name = "x" # mine\n# a note of nobody\'s')
    send(editor, "tab:toml", {"toml": before, "view": "toml"})
    send(editor, "tab:form", {"toml": before})
    words = send(editor, "check", {"memberships[1].factor": "0.6", "service_tiers[1].deadline_hours": "12"})
    after = toml_of(editor)
    expected = before.replace('factor = "0.65" ', 'factor = "0.6" ').replace(
        "deadline_hours = 24", "deadline_hours = 12"
    )
    assert after == expected
    before_and_after = f"{price_of_a_second(before)} {price_of_a_second(after)}"
    assert f"professional, 720P {before_and_after} −7.69 %" in words
    assert "membership professional: factor from 0.65 to 0.6" in words


def test_new_example_amounts_are_accepted_and_listed_for_the_approver(site: Site, editor: Browser):
    before = price_of_a_second(toml_of(editor))
    words = send(editor, "check", {"memberships[1].factor": "0.6"})
    assert re.search(r"\d+ of 20 examples fail\.", words)
    words = send(editor, "accept")
    assert "All 20 examples pass." in words
    assert 'total = "2.03"' in toml_of(editor)
    after = price_of_a_second(toml_of(editor))
    send(editor, "save", {"note": "cheaper"})
    book = editor.page.url.path
    approver = site.browser("approver")
    approver.get(book)
    assert "professional, launch offer, 720P, 5 s ¥2.19 ¥2.03" in approver.text()
    content_hash = re.search(r'name="content_hash" value="([^"]+)"', approver.page.text)[1]
    approver.send(f"{book}/approval", {"content_hash": content_hash})
    approver.send(f"{book}/publication", {"effective_at": (soon := local_time(timedelta(hours=1)))})
    assert f"{soon[-5:]}:00 CST" in approver.text()
    assert f"professional, 720P costs {after} per second instead of {before} (−7.69 %)." in approver.text()


WRONG = [
    ("memberships[1].factor", "12,5", "Write 12.5, with a point before the decimals."),
    ("memberships[1].factor", "7", "A factor from 0 to 1 with a point: 0.65 is 35 % off."),
    ("memberships[1].factor", "", "A factor from 0 to 1 with a point: 0.65 is 35 % off."),
    ("rates[1].per_second", "¥1", "A price per second with a point, such as 0.90."),
    ("memberships[0].concurrency", "1.5", "A whole number from 1 to 1000."),
    ("promotions[0].starts_at", "soon", "A date and time, or empty: open."),
    ("promotions[0].ends_at", "2027-12-31T00:00+01:00", "A date and time after the start, or empty: open."),
    ("promotions[0].budget", "5,5", "Write 5.5, with a point before the decimals."),
    ("name", "Ü", "Small letters, digits, dots and hyphens, used once in its list."),
    ("service_tiers[2].factor", "0.9", "needs a factor of 1 or more"),
]


def test_a_wrong_field_is_marked_where_it_is(editor: Browser):
    before = toml_of(editor)
    for path, text, words in WRONG:
        editor.get(f"{PATH}/new")
        answer = editor.send(PATH, {**submitted(editor), path: text, "then": "save"})
        assert answer.status_code == 422, path
        notes = re.findall(r'id="f-([^"]+)-wrong">([^<]+)</small>', answer.text)
        [(place, note)] = [(each, unescape(note)) for each, note in notes]
        assert words in note
        # A tier's promise and its factor stand together; the text names the promise.
        assert place in (path.replace("[", "-").replace("].", "-"), "service_tiers-2-start_within_minutes")
        assert submitted(editor)[path] == text, "what was typed is still there"
        if "," in text:
            assert toml_of(editor) == before
    with transaction() as session:
        assert len(list_books(session)) == 1


def test_rows_are_added_and_removed(editor: Browser):
    before = toml_of(editor)
    for table, field in (
        ("promotions", "factor"),
        ("service_tiers", "factor"),
        ("rates", "per_second"),
        ("memberships", "factor"),
    ):
        send(editor, f"add:{table}")
        index = toml_of(editor).count(f"[[{table}]]") - 1
        assert f'name="{table}[{index}].{field}"' in editor.page.text, table
        assert "problem" not in editor.text(), table
        send(editor, f"remove:{table}:{index}")
        assert toml_of(editor) == before, table
    words = send(editor, "remove:promotions:0")
    assert "promotion launch-2026 is removed" in words
    assert "[[promotions]]" not in toml_of(editor)


def test_a_promotions_window_is_in_the_visitors_zone(editor: Browser):
    assert submitted(editor)["promotions[0].starts_at"] == "2026-04-27T00:00"
    assert "Starts (Asia/Shanghai)" in editor.text()
    send(
        editor, "check", {"promotions[0].ends_at": "2026-12-31T23:00", "promotions[0].memberships": ["free", "studio"]}
    )
    assert "ends_at = 2026-12-31T23:00:00+08:00\n" in toml_of(editor)
    assert "starts_at = 2026-04-27T00:00:00+08:00\n" in toml_of(editor)
    assert 'memberships = ["free", "studio"]' in toml_of(editor)


def test_a_promotion_is_widened_to_everybody_by_name_only(editor: Browser):
    before = toml_of(editor)
    path = "promotions[0].memberships"
    assert submitted(editor)[path] == ["professional"]
    for ticked, words in (([], "Tick All, or one or more"), (["*", "free"], "All is ticked beside others.")):
        answer = editor.send(PATH, {**submitted(editor), path: ticked, "then": "save"})
        assert answer.status_code == 422
        assert words in editor.text()
        assert submitted(editor).get(path, []) == ticked, "what was ticked is still there"
        assert toml_of(editor) == before
    send(editor, "check", {path: ["*"]})
    assert 'memberships = ["professional"]' not in toml_of(editor)
    assert submitted(editor)[path] == ["*"]


def test_a_draft_never_undoes_a_book_that_was_scheduled_meanwhile(editor: Browser):
    mine = submitted(editor)
    with transaction() as session:
        theirs = mine["toml"].replace('name = "2026-04-27"', 'name = "theirs"')
        book = draft_book(session, SYSTEM_ACTOR, theirs)
        approve_book(session, SYSTEM_ACTOR, book.id, content_hash=book.content_hash)
        schedule_book(session, SYSTEM_ACTOR, book.id, now(session) + timedelta(days=1))
    for then in ("check", "save"):
        editor.send(PATH, {**mine, "then": then})
        mine = submitted(editor)
    assert editor.page.status_code == 409
    assert "Another price book was scheduled since you began." in editor.text()
    with transaction() as session:
        assert len(list_books(session)) == 2
        assert newest_book(session).toml == theirs
    editor.get(f"{PATH}/new")
    send(editor, "save", {"title.en": "After theirs"})
    with transaction() as session:
        assert {each.based_on for each in list_books(session) if each.state == "draft"} == {newest_book(session).id}


def test_two_tabs_do_not_overwrite_each_other(editor: Browser):
    send(editor, "save")
    path = f"{editor.page.url.path}/edit"
    editor.get(path)
    other = submitted(editor)
    assert editor.send(path, {**other, "title.en": "One tab", "then": "save"}).status_code == 200
    answer = editor.send(path, {**other, "title.en": "The other", "then": "save"})
    assert answer.status_code == 409
    assert "The draft was edited elsewhere since you opened it." in editor.text()
    editor.get(path)
    assert submitted(editor)["title.en"] == "One tab"


def test_a_membership_that_accounts_have_is_not_renamed_or_removed_unnoticed(editor: Browser):
    assert re.search(r'name="memberships\[1\]\.id"[^>]* readonly', editor.page.text)
    assert re.search(r"Remove 2 accounts", editor.text()), "alice and bob are professionals"
    answer = editor.send(PATH, {**submitted(editor), "memberships[1].id": "expert", "then": "save"})
    assert answer.status_code == 422
    assert "Professional, Id : The present book has this id, so it stays." in editor.text()
    editor.get(f"{PATH}/new")
    words = send(editor, "remove:memberships:1", {"promotions[0].memberships": ["*"]})
    assert "2 accounts have the membership professional. Without it, they pay as free." in words
    assert "Remove the examples that name removed rows" in words
    words = send(editor, "prune")
    assert "problem" not in words
    assert 'membership = "professional"' not in toml_of(editor)


def test_a_value_of_the_wrong_type_is_corrected_by_its_field(editor: Browser):
    text = toml_of(editor)
    send(editor, "tab:toml")
    number = re.search(r"concurrency = (\d+)", text)
    send(editor, "tab:form", {"toml": text.replace(number[0], f'concurrency = "{number[1]}"', 1)})
    send(editor, "check")
    assert toml_of(editor) == text


def test_a_wrong_field_shows_nothing_that_follows_from_its_old_value(editor: Browser):
    words = send(editor, "check", {"memberships[1].factor": "12,5"})
    # The text of the book, which the form carries, names its worked examples too.
    assert "<summary>Worked examples" not in editor.page.text
    assert "examples pass" not in words
    assert "Correct the problems first" in send(editor, "simulate", {"memberships[1].factor": "12,5"})


def test_a_book_may_have_more_fields_than_other_forms(editor: Browser):
    fields = {f"promotions[{number}].factor": "1" for number in range(700)}
    assert editor.send(PATH, {**submitted(editor), **fields, "then": "check"}).status_code == 200


def test_problems_lead_to_their_line_or_field(editor: Browser):
    text = toml_of(editor)
    send(editor, "tab:toml")
    broken = text.replace('per_second = "0.90"', "per_second = 0.90", 1)
    send(editor, "check", {"toml": broken})
    line = broken[: broken.index("per_second = 0.90")].count("\n") + 1
    assert f'<a href="#line-{line}">Line {line}</a>' in editor.page.text
    assert f'<span id="line-{line}" class="bad">' in editor.page.text
    send(editor, "tab:form", {"toml": broken})
    assert 'href="#f-rates-1-per_second"' in editor.page.text
    send(editor, "tab:toml", {"rates[1].per_second": "0.90"})
    assert toml_of(editor) == text, "corrected in the form"
    words = send(editor, "tab:form", {"toml": text + "\nnot toml"})
    assert "not valid TOML" in words
    assert 'name="view" value="toml"' in editor.page.text


def test_the_preview_while_typing_marks_fields_and_prices(editor: Browser):
    form = submitted(editor) | {"memberships[1].factor": "0.6", "memberships[2].factor": "0,5"}
    editor.send(f"{PATH}/check", form, **{"hx-request": "true"})
    assert '<span class="figure" id="price-1-1" hx-swap-oob="true">¥0.41</span>' in editor.page.text
    assert 'id="f-memberships-2-factor-wrong" hx-swap-oob="true">Write 0.5, with a point' in editor.page.text


def test_a_draft_is_simulated_before_it_is_saved(editor: Browser):
    words = send(editor, "simulate", {"memberships[1].factor": "0.6"})
    assert "With this draft ¥0.00" in words
    assert "Correct the problems first" in send(editor, "simulate", {"rates[0].id": "!"})


def test_only_the_books_own_buttons_work(editor: Browser):
    for then in ("add:examples", "remove:examples:0", "remove:promotions:9", "remove:promotions:x", "nonsense"):
        answer = editor.send(PATH, {**submitted(editor), "then": then})
        assert answer.status_code == 422, then


def test_the_form_has_a_field_for_every_key_of_a_row():
    def names(kind: type) -> set[str]:
        return {each.name for each in dataclasses.fields(kind)}

    title = {"title.en", "title.zh"}
    keys = {
        "rates": (names(Rate) - {"pattern"}) | names(RatePattern),
        "memberships": (names(Membership) - {"title"}) | title,
        "service_tiers": {"id", "factor", "start_within_minutes", "deadline_hours"} | title,
        "promotions": (names(Promotion) - {"title", "window"}) | title | names(Window),
    }
    assert {table: {each.key for each in fields} for table, fields in TABLES.items()} == keys
