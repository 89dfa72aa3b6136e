"""Pages of failures and limits: failed, expired and deleted films, pauses, suspensions, an empty wallet."""

import re
from datetime import timedelta

import pytest

from app.accounts.accounts import suspend
from app.accounts.memberships import end_membership
from app.audit_log.actor import Actor
from app.clock import now
from app.db import transaction
from app.jobs.intake import pause_intake
from app.jobs.settle import expire, fail
from app.jobs.tables import Job
from app.roles import Role
from app.wallet.funds import correct
from tests.app.web.conftest import Browser, Site

FILM = {"shot_prompt": "a red circle", "shot_seconds": "2", "model": "synthetic", "resolution": "480P", "ratio": "16:9"}
OPERATOR = Actor("an operator", "session", frozenset({str(Role.OPERATOR)}))


def order(browser: Browser, **film: str) -> str:
    """Order a film and return the path of its page."""
    browser.get("/studio")
    browser.send("/studio/orders", {**FILM, **film})
    link = re.search(r'href="(/films/video_\w+)"', browser.page.text)
    assert link, browser.text()
    return link[1]


def test_a_failed_film_says_why_and_can_be_tried_again(site: Site):
    browser = site.browser("alice")
    film = order(browser)
    with transaction() as session:
        job = session.get(Job, film.removeprefix("/films/"))
        fail(session, job, code="out_of_memory", message="The GPU ran out of memory twice.")
    browser.get(film)
    text = browser.text()
    assert "This film could not be generated. Nothing was charged. The GPU ran out of memory twice." in text
    assert f'href="/studio?from={job.id}">Try again' in browser.page.text
    assert "Download" not in text
    assert "Charged ¥0.00" in text
    browser.get("/films?state=failed")
    assert "The GPU ran out of memory twice." in browser.text()


def test_a_film_that_was_never_started_is_free(site: Site):
    browser = site.browser("alice")
    film = order(browser, service_tier="flex")
    with transaction() as session:
        expire(session, session.get(Job, film.removeprefix("/films/")))
    browser.get(film)
    assert "No worker was free in time, so this film was not started. Nothing was charged." in browser.text()


def test_a_film_whose_files_were_deleted_keeps_its_receipt(site: Site):
    browser = site.browser("alice")
    film = order(browser)
    site.work()
    with transaction() as session:
        session.get_one(Job, film.removeprefix("/films/")).files_removed_at = now(session)
    browser.get(film)
    text = browser.text()
    assert "The files were deleted at the end of their retention period. The receipt is kept." in text
    assert "Nothing was charged" not in text
    assert "Reuse settings" in text
    assert "Continue from this film" not in text
    assert browser.client.get(f"{film}/receipt.pdf").content.startswith(b"%PDF")


def test_the_studio_shows_that_intake_is_paused(site: Site):
    with transaction() as session:
        pause_intake(session, OPERATOR, model="synthetic", reason="New GPUs are being fitted.")
        pause_intake(session, OPERATOR, account_id=site.accounts["bob"], reason="Bob has to call us.")
    browser = site.browser("alice")
    browser.get("/studio")
    assert "New films with synthetic are paused: New GPUs are being fitted." in browser.text()
    assert "Bob" not in browser.text()
    assert browser.send("/studio/orders", FILM).status_code == 503
    assert "a red circle</textarea>" in browser.page.text


def test_the_studio_shows_that_the_account_is_suspended(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        suspend(session, site.accounts["alice"], "An invoice is open")
    browser.get("/studio")
    assert "This account is suspended: An invoice is open." in browser.text()
    assert browser.send("/studio/orders", FILM).status_code == 403
    assert browser.get("/films").status_code == 200


def test_pages_show_that_the_wallet_is_empty(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        correct(session, site.accounts["alice"], -100_000, reference="gone", reason="spent elsewhere")
    browser.get("/account")
    assert "Your balance is used up." in browser.text()
    assert "Available ¥0.00" in browser.text()
    browser.get("/studio")
    assert "Not enough balance: ¥2.19 short." in browser.text()
    assert browser.send("/studio/orders", FILM).status_code == 402


def test_the_wallet_shows_a_membership_that_ended(site: Site):
    browser = site.browser("alice")
    with transaction() as session:
        end_membership(session, site.accounts["alice"], now(session) + timedelta(milliseconds=1))
    browser.get("/account")
    assert "Your Professional membership ended on" in browser.text()
    assert "Free membership" in browser.text()


@pytest.mark.parametrize("file", ["statements.pdf", "statements.csv"])
def test_statements_and_receipts_are_downloaded(site: Site, file: str):
    browser = site.browser("alice")
    order(browser, shot_prompt="paper")
    site.work()
    browser.get("/account/statements")
    text = browser.text()
    assert "Opening balance ¥0.00" in text
    assert "synthetic 480P standard 1 2 s ¥0.90 ¥0.44" in text.replace("\xa0", " ")
    assert f"/account/{file}" in browser.page.text
    answer = browser.client.get(f"/account/{file}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.content.startswith(b"%PDF") or "0.44" in answer.text
    browser.get("/account/receipts")
    receipt = re.search(r"/account/receipts/\w+\.pdf", browser.page.text)[0]
    assert browser.client.get(receipt).content.startswith(b"%PDF")
    assert site.browser("bob").get(receipt).status_code == 404


def test_usage_is_seconds_and_money_of_each_project_and_model(site: Site):
    browser = site.browser("alice")
    browser.get("/account/projects")
    browser.send("/account/projects", {"name": "Spring", "budget": "20"})
    browser.get("/studio")
    project = re.search(r'<option value="(proj_\w+)">Spring', browser.page.text)[1]
    order(browser, project=project)
    site.work()
    browser.get("/account/usage")
    text = browser.text().replace("\xa0", " ")
    for words in ("Charged by project Spring ¥0.44", "Delivered by project Spring 2 s"):
        assert words in text
    for words in ("Charged by model synthetic ¥0.44", "Delivered by model synthetic 2 s"):
        assert words in text
