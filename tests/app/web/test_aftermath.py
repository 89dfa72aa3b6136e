"""After a film is finished: reuse, extension, edit, refunds, and callback deliveries."""

import re

from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.db import transaction
from app.jobs.tables import Job
from app.wallet.funds import refund
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order
from tests.app.webhooks.factories import answered, claim_due, finish


def order_variation(browser: Browser, film: str, kind: str, **form: str) -> str:
    """Order a variation of a film and return the path of its page."""
    browser.get(film)
    answer = browser.send(f"{film}/variations", {"kind": kind, "prompt": f"the {kind}", **form})
    assert answer.url.path != film, browser.text()
    return answer.url.path


def plain(browser: Browser) -> str:
    return browser.text().replace("\xa0", " ")


def test_an_extended_or_edited_film_links_to_its_parent(site: Site):
    browser = site.browser("alice")
    film = order(browser)
    site.work()
    for kind, words in (("extension", "Extend again"), ("edit", "Edit again")):
        variation = order_variation(browser, film, kind, seconds="1")
        site.work()
        page = browser.get(variation).text
        assert f'href="{film}#{kind}-prompt">{words}' in page
        assert ("Extended film , 2 s" in plain(browser)) == (kind == "extension")
        # The studio names the inputs that its form cannot carry over.
        browser.get(f"/studio?from={variation.removeprefix('/films/')}")
        assert "Not carried over from that film: the source clip." in browser.text()
    longer = order_variation(browser, film, "extension", seconds="1")
    site.work()
    browser.get(longer)
    assert f'<a href="{film}">Extended film</a>' in browser.page.text
    browser.send(f"{film}/removal")
    page = browser.get(longer).text
    assert f'<a href="{film}">Extended film</a>' not in page
    assert f'href="/studio?from={longer.removeprefix("/films/")}">Reuse settings' in page


def test_the_price_of_an_extension_says_what_it_is_order_variation(site: Site):
    browser = site.browser("alice")
    film = order(browser)
    site.work()
    browser.get(film)
    assert re.search(r"¥[\d.]+ .*5 s new, [\d.]+ s read from this film", plain(browser))
    browser.send(f"{film}/variations/price", {"kind": "extension", "prompt": "on", "seconds": "3"})
    assert re.search(r"¥[\d.]+ .*3 s new, ", plain(browser))


def test_settings_of_a_film_are_reused_with_its_project(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        project = create_project(session, site.accounts["alice"], "Spring").id
    film = order(browser, project=project)
    browser.get(f"/studio?from={film.removeprefix('/films/')}")
    assert f'<option value="{project}" selected>' in browser.page.text
    browser.get("/account/projects")
    browser.send(f"/account/projects/{project}/archival")
    browser.get(f"/studio?from={film.removeprefix('/films/')}")
    assert project not in browser.page.text
    assert "Not carried over" not in browser.text()


def test_refunds_are_shown_on_the_film_and_the_receipts(site: Site):
    browser = site.browser("alice")
    film = order(browser)
    site.work()
    with transaction() as session:
        job = session.get(Job, film.removeprefix("/films/"))
        refund(session, job.id, 20, reference="flicker", reason="it flickers")
    browser.get(film)
    assert re.search(r"Refunded ¥0\.20 , \d+ \w+ \d+: it flickers", browser.text())
    browser.get("/account/receipts")
    assert "refunded ¥0.20" in browser.text()


def test_callback_deliveries_are_shown_on_the_films_page(site: Site):
    with transaction() as session:
        _, secret = issue_key(session, site.accounts["alice"], scopes=["videos"], name="farm")
    body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    order_body = {**body, "callback_url": "https://hooks.example.com/done"}
    film = site.app.post("/v1/videos", json=order_body, headers={"authorization": f"Bearer {secret}"}).json()["id"]
    browser = site.browser("alice")
    browser.get(f"/films/{film}")
    assert "Callback" not in browser.text()
    site.work()
    with transaction() as session:
        finish(session, claim_due(session), answered(500))
    browser.get(f"/films/{film}")
    assert "video.completed pending, 1 attempt, response 500" in browser.text()
    delivery = re.search(r'href="(/account/webhooks/deliveries/\w+)"', browser.page.text)[1]
    assert "hooks.example.com" in browser.get(delivery).text
