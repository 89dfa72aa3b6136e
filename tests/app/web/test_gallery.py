"""The gallery: names, favourites, filters, order and pages of films; and how a full account is read."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.projects import create_project
from app.accounts.tables import Account
from app.audit_log.actor import SYSTEM_ACTOR
from app.clock import now
from app.db import transaction
from app.jobs.film_labels import mark_favourite, rename_film
from app.jobs.film_list import FilmFilter, list_films
from app.jobs.tables import Job
from app.web.studio import gallery
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order
from tests.statement_count import recorded_statements

# Copies of one film, one a minute into the past, in 10 projects, 5 ratios and 4 states.
COPIES = text("""
    INSERT INTO jobs
    SELECT copy.* FROM jobs AS j
    CROSS JOIN generate_series(CAST(:first AS int), :last) AS n
    CROSS JOIN LATERAL jsonb_populate_record(j, jsonb_build_object(
        'id', 'video_copy' || lpad(n::text, 20, '0'), 'quote_id', NULL, 'mark_id', NULL, 'prompt', j.prompt || ' ' || n,
        'created_at', j.created_at - n * interval '1 minute', 'total', n % 1000,
        'state', (ARRAY['completed', 'completed', 'failed', 'cancelled'])[1 + n % 4], 'finished_at', j.created_at,
        'model', (ARRAY['demo', 'synthetic'])[1 + n % 2],
        'spec', jsonb_set(j.spec, '{ratio}', to_jsonb((ARRAY['16:9', '9:16', '1:1', '4:3', '3:4'])[1 + n % 5]))
    )) AS copy
    WHERE j.id = :id
""")

# Every tenth copy has a name, every hundredth a star. Most labels are of another account.
LABELS = text("""
    INSERT INTO film_labels (job_id, account_id, name, is_favourite)
    SELECT id, CASE WHEN total % 500 = 0 THEN account_id ELSE 'another' END, 'film ' || total, total % 100 = 0
    FROM jobs WHERE total % 10 = 0
""")


def plan_of(session: Session, account_id: str, wanted: FilmFilter) -> str:
    """Return the database's plan of a page of films."""
    caller = Caller(session.get_one(Account, account_id), frozenset(), frozenset())
    sent: list[tuple[str, Any]] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(session.connection(), "before_cursor_execute", record)
    list_films(session, caller, wanted, limit=gallery.PAGE)
    [(statement, parameters)] = sent
    return "\n".join(session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())


def titles(browser: Browser, query: str = "") -> list[str]:
    browser.get(f"/films{query}")
    return re.findall(r'<h3 class="film-title"[^>]*><a href="[^"]+">([^<]*)</a>', browser.page.text)


def films(browser: Browser, **forms: dict[str, str]) -> dict[str, str]:
    """Order films by name; return the id of each. The name is the prompt."""
    return {name: order(browser, shot_prompt=name, **form).removeprefix("/films/") for name, form in forms.items()}


def test_films_are_filtered_by_each_thing_that_the_form_offers(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        project = create_project(session, site.accounts["alice"], "Spring").id
    ids = films(browser, plain={}, tall={"ratio": "9:16"}, long={"shot_seconds": "9"}, spring={"project": project})
    with transaction() as session:
        session.get_one(Job, ids["tall"]).created_at = now(session) - timedelta(days=40)
        session.get_one(Job, ids["long"]).model = "demo"
        mark_favourite(session, session.get_one(Job, ids["spring"]), True)
        rename_film(session, SYSTEM_ACTOR, session.get_one(Job, ids["long"]), "The  long one")
        day = f"{now(session) - timedelta(days=2):%Y-%m-%d}"
    assert titles(browser) == ["spring", "The long one", "plain", "tall"]
    for query, names in (
        (f"project={project}", ["spring"]),
        ("model=demo", ["The long one"]),
        ("ratio=9:16", ["tall"]),
        (f"since={day}", ["spring", "The long one", "plain"]),
        (f"until={day}", ["tall"]),
        ("favourites=yes", ["spring"]),
        ("search=LONG+one", ["The long one"]),
        ("search=long", ["The long one"]),
        ("sort=oldest", ["tall", "plain", "The long one", "spring"]),
        (f"sort=oldest&since={day}&model=demo", ["The long one"]),
        ("state=completed", []),
        # What the form never sends filters nothing.
        ("since=x&until=9999-12-31&ratio=x&project=x&sort=x&state=x", ["spring", "The long one", "plain", "tall"]),
    ):
        assert titles(browser, f"?{query}") == names, query
    assert titles(site.browser("bob"), f"?project={project}") == []


def test_films_of_a_model_that_is_no_longer_sold_are_filtered_too(site: Site):
    browser = site.browser("alice")
    ids = films(browser, old={}, new={})
    with transaction() as session:
        session.get_one(Job, ids["old"]).model = "gone-2025"
    assert titles(browser, "?model=gone-2025") == ["old"]
    assert '<option value="gone-2025" selected>gone-2025</option>' in browser.page.text
    assert titles(browser, "?model=never-sold") == ["new", "old"], "what the form never sends filters nothing"


@pytest.mark.parametrize("sort", ["newest", "oldest"])
def test_pages_of_films_miss_none(site: Site, monkeypatch: pytest.MonkeyPatch, sort: str):
    monkeypatch.setattr(gallery, "PAGE", 2)
    browser = site.browser("alice")
    films(browser, one={}, two={}, three={}, four={}, five={})
    query, seen = f"?sort={sort}", []
    while query:
        seen += titles(browser, query)
        following = re.search(r'href="/films(\?[^"]*after=[^"]*)"', browser.page.text)
        query = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == 5 == len(set(seen))


def test_a_film_is_named_and_marked_on_its_page(site: Site):
    browser = site.browser("alice")
    path = order(browser, shot_prompt="a red circle")
    browser.get(path)
    browser.send(f"{path}/name", {"name": "Opening"})
    assert '<h1 class="break">Opening</h1>' in browser.page.text
    assert browser.send(f"{path}/name", {"name": "x" * 121}).status_code == 422
    browser.get(path)
    browser.send(f"{path}/name", {"name": " "})
    assert '<h1 class="break">a red circle</h1>' in browser.page.text
    site.work()
    browser.get(path)
    browser.send(f"{path}/favourite", {"favourite": "yes"})
    assert re.search(r'class="button small star" aria-pressed="true"', browser.page.text)
    card = browser.send(f"{path}/favourite", {"favourite": "no"}, **{"hx-request": "true"})
    assert card.text.lstrip().startswith('<div class="film"')
    assert 'aria-pressed="false"' in card.text
    bob = site.browser("bob")
    bob.get("/films")
    assert bob.send(f"{path}/name", {"name": "mine"}).status_code == 404
    assert bob.send(f"{path}/favourite", {"favourite": "yes"}).status_code == 404


def test_a_search_reads_the_labels_once(site: Site):
    with transaction() as session:
        assert "hashed SubPlan" in plan_of(session, site.accounts["alice"], FilmFilter(search="circle"))


@pytest.mark.deep
def test_pages_of_a_hundred_thousand_films_are_read_by_indices(site: Site, engine: Engine):
    browser = site.browser("alice")
    path = order(browser, shot_prompt="a red circle")
    site.work()
    # In parts: a connection waits for a statement for some seconds only.
    for first in range(1, 100_001, 5_000):
        with transaction() as session:
            inputs = {"first": first, "last": first + 4_999, "id": path.removeprefix("/films/")}
            session.execute(COPIES, inputs)
    with transaction() as session:
        session.execute(LABELS)
    with transaction() as session:
        session.execute(text("ANALYZE jobs, film_labels"))
    counts = set()
    for query, wanted in (
        ("", FilmFilter()),
        ("?model=demo", FilmFilter(model="demo")),
        ("?ratio=9:16&state=failed", FilmFilter(ratio="9:16", state="failed")),
        ("?sort=oldest", FilmFilter(sort="oldest")),
        ("?favourites=yes", FilmFilter(is_favourite=True)),
        ("?search=99999", FilmFilter(search="99999")),
    ):
        with recorded_statements(engine) as statements:
            assert browser.get(f"/films{query}").status_code == 200
        counts.add(len(statements))
        with transaction() as session:
            plan = plan_of(session, site.accounts["alice"], wanted)
        assert "Seq Scan on film_labels" not in plan, plan
        assert "Seq Scan on jobs" not in plan, plan
    # Some pages have no film that waits, or none at all; no number follows the number of films.
    assert max(counts) < 20, counts
