"""The landing page: films with a price, a description on its way to the studio, and the agreement behind a film."""

import re
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from app.admin.showcase import choose_film
from app.audit_log.actor import SYSTEM_ACTOR
from app.audit_log.log import list_entries
from app.catalog.models import load_catalog
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.jobs.showcase import SHOWCASE_MAX, may_be_shown
from app.jobs.showcase_tables import ShowcaseAgreement
from app.jobs.tables import Job
from app.request_limits import WorkKind, declared_limits
from app.settings import get_settings
from app.web import landing
from app.web.description import DESCRIPTION_MAX, price_description
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order
from tests.app.web.test_findings import storyboard

WORDS = "a red circle bounces on a blue background"


def agreed_film(site: Site, browser: Browser) -> str:
    """Order and finish a film that its owner agrees to show; return its id."""
    film = order(browser, shot_prompt="a film for everybody", shot_seconds="2").removeprefix("/films/")
    site.work()
    browser.get(f"/films/{film}")
    assert "Agree to show this film" in browser.text()
    browser.send(f"/films/{film}/showcase", {"agree": "yes"})
    assert "Withdraw agreement" in browser.text()
    return film


def shown(site: Site) -> list[str]:
    """Return the ids of the films on the landing page, as a visitor sees them."""
    page = site.browser().get("/").text
    return list(dict.fromkeys(re.findall(r"/showcase/([\w-]+)/video", page) + re.findall(r"film=([\w-]+)", page)))


def test_a_fresh_installation_shows_three_films_of_the_demo_model_with_their_present_price(site: Site):
    browser = site.browser()
    answer = browser.get("/")
    assert (answer.status_code, answer.url.path) == (200, "/")
    assert shown(site) == ["sunrise", "rocket", "shapes"]
    assert "AI-generated" in browser.text()
    # 7 seconds at the list price of 0.90.
    assert re.search(r'data-count="amount"[^>]*>¥6.30<', answer.text)
    assert re.search(r'data-count="seconds"[^>]*>7<', answer.text)
    assert re.search(r'data-count="amount"[^>]*>¥4.95<', browser.get("/?film=rocket").text)
    # An unknown film is no error: a link may be older than the choice.
    assert browser.get("/?film=nothing").status_code == 200


def test_the_shipped_films_are_sent_whole_and_in_parts(site: Site):
    browser = site.browser()
    whole = browser.get("/showcase/rocket/video")
    part = browser.get("/showcase/rocket/video", range="bytes=4-7")
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{len(whole.content)}"
    assert browser.get("/showcase/rocket/thumbnail").headers["content-type"] == "image/jpeg"
    assert browser.get("/showcase/nothing/video").status_code == 404
    assert browser.get("/showcase/..%2Ffilms/video").status_code == 404


def test_a_film_is_shown_once_its_owner_agreed_and_an_operator_chose_it(site: Site):
    alice, operator = site.browser("alice"), site.browser("author")
    film = agreed_film(site, alice)
    assert film not in site.browser().get("/").text
    operator.get("/admin/showcase")
    assert "a film for everybody" in operator.text()
    assert "Agreed by alice@example.com" in operator.text()
    operator.send(f"/admin/showcase/{film}", {"show": "yes"})
    assert "On the landing page" in operator.text()
    [film_id] = shown(site)
    guest = site.browser()
    assert guest.get(f"/showcase/{film_id}/video").headers["cache-control"] == "no-store"
    assert guest.get(f"/showcase/{film_id}/thumbnail").status_code == 200
    # Neither the job's id nor who made it is public.
    page = guest.get("/").text
    assert "a film for everybody" in page
    assert film not in page
    assert "Alice" not in page
    operator.send(f"/admin/showcase/{film}", {"show": "no"})
    assert shown(site) == ["sunrise", "rocket", "shapes"]
    assert guest.get(f"/showcase/{film_id}/video").status_code == 404
    assert operator.get(f"/showcase/{film_id}/video").status_code == 200
    with transaction() as session:
        assert [each.act for each in reversed(list_entries(session, subject=film))] == [
            *("film.showcase_agreed", "film.showcase_chosen", "film.showcase_removed")
        ]


@pytest.mark.parametrize("end", ["revoked", "deleted", "expired", "suspended"])
def test_a_film_leaves_the_page_at_once(site: Site, end: str):
    alice = site.browser("alice")
    film = agreed_film(site, alice)
    with transaction() as session:
        film_id = choose_film(session, SYSTEM_ACTOR, film).id
    assert shown(site) == [film_id]
    alice.get(f"/films/{film}")
    assert "On the landing page" in alice.text()
    if end == "revoked":
        alice.send(f"/films/{film}/showcase", {"agree": "no"})
    elif end == "deleted":
        alice.send(f"/films/{film}/removal")
    elif end == "expired":
        with transaction() as session:
            session.get_one(Job, film).files_expire_at = now(session) - timedelta(seconds=1)
    else:
        operator = site.browser("author")
        operator.get(f"/admin/accounts/{site.accounts['alice']}")
        operator.send(f"/admin/accounts/{site.accounts['alice']}/suspension", {"reason": "a test"})
    assert shown(site) == ["sunrise", "rocket", "shapes"]
    assert site.browser().get(f"/showcase/{film_id}/video").status_code == 404
    if end == "revoked":
        with transaction() as session:
            agreement = session.get_one(ShowcaseAgreement, film_id)
            assert agreement.revoked_by == agreement.agreed_by
            with pytest.raises(AppError, match="has not agreed"):
                choose_film(session, SYSTEM_ACTOR, film)


def test_a_retaken_film_has_the_price_of_its_whole_length_at_the_standard_tier(site: Site):
    alice = site.browser("alice")
    film = storyboard(alice)
    site.work()
    alice.get(film)
    again = alice.send(f"{film}/variations", {"kind": "retake", "shot": "1", "prompt": "another"}).url.path
    site.work()
    alice.get(again)
    alice.send(f"{again}/showcase", {"agree": "yes"})
    with transaction() as session:
        job = session.get_one(Job, again.removeprefix("/films/"))
        job.spec = {**job.spec, "service_tier": "flex"}
        choose_film(session, SYSTEM_ACTOR, job.id)
    # 3 seconds at 0.45, 1 of them reused.
    answer = site.browser().get("/")
    assert re.search(r'data-count="amount"[^>]*>¥1.35<', answer.text)
    assert re.search(r'data-count="seconds"[^>]*>3<', answer.text)


def test_a_film_that_cannot_be_read_or_priced_is_left_out(site: Site):
    alice = site.browser("alice")
    film = agreed_film(site, alice)
    with transaction() as session:
        choose_film(session, SYSTEM_ACTOR, film)
        job = session.get_one(Job, film)
        spec = job.spec
        job.spec = {**spec, "resolution": "240P"}
    assert shown(site) == ["sunrise", "rocket", "shapes"]
    with transaction() as session:
        session.get_one(Job, film).spec = {"from": "another release"}
    assert shown(site) == ["sunrise", "rocket", "shapes"]


def test_a_film_with_another_name_has_to_be_chosen_anew(site: Site):
    alice = site.browser("alice")
    film = agreed_film(site, alice)
    with transaction() as session:
        film_id = choose_film(session, SYSTEM_ACTOR, film).id
    alice.get(f"/films/{film}")
    alice.send(f"/films/{film}/name", {"name": ""})
    assert shown(site) == [film_id]
    alice.send(f"/films/{film}/name", {"name": "Words that nobody read"})
    page = site.browser().get("/").text
    assert f"/showcase/{film_id}" not in page
    assert "Words that nobody read" not in page


def test_only_owners_agree_and_only_operators_choose(site: Site):
    alice, approver = site.browser("alice"), site.browser("approver")
    film = agreed_film(site, alice)
    bob = site.browser("bob")
    bob.get("/account/projects")
    assert bob.send(f"/films/{film}/showcase", {"agree": "yes"}).status_code == 404
    approver.get("/admin/showcase")
    assert approver.send(f"/admin/showcase/{film}", {"show": "yes"}).status_code == 403


def test_the_page_shows_a_limited_number_of_films(site: Site):
    alice, operator = site.browser("alice"), site.browser("author")
    film = agreed_film(site, alice)
    with transaction() as session:
        job = session.get_one(Job, film)
        assert may_be_shown(job, now(session))
        assert not may_be_shown(job, now(session) + timedelta(days=400))
    assert SHOWCASE_MAX == 6
    operator.get("/admin/showcase")
    assert operator.send("/admin/showcase/video_nothing", {"show": "yes"}).status_code == 404


def described(browser: Browser, words: str = WORDS) -> str:
    browser.get("/")
    answer = browser.send("/describe", {"description": words})
    assert answer.status_code == 200, browser.text()
    return answer.text


def test_a_description_gets_its_price_and_is_in_the_studio_after_the_sign_in(site: Site):
    browser = site.browser()
    page = described(browser)
    assert "<output>¥4.50</output>" in page
    assert '<span class="term">circle</span>' in page
    browser.get("/showcase/studio")
    assert browser.page.url.path == "/sign-in"
    assert WORDS in browser.text()
    browser.send("/sign-in", {"email": "alice@example.com", "password": "correct horse battery"})
    assert browser.page.url.path == "/studio"
    assert f">{WORDS}</textarea>" in browser.page.text
    with transaction() as session:
        assert session.query(Job).count() == 0
    # Ordered, it is forgotten.
    browser.send("/studio/orders", {"shot_prompt": WORDS, "shot_seconds": "1", "model": "synthetic"})
    assert "ordered=" in str(browser.page.url)
    assert "cinemeter_description" not in browser.client.cookies


def test_a_description_survives_a_new_account(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CINEMETER_SIGNUP", "open")
    get_settings.cache_clear()
    browser = site.browser()
    assert 'href="/sign-up"' in described(browser, "云 <b>上面</b>\nthe sea")
    browser.get("/sign-up")
    assert "云 <b>上面</b>" in browser.text()
    form = {"name": "New", "email": "new@example.com", "password": "correct horse battery"}
    browser.send("/sign-up", form)
    assert browser.page.url.path == "/studio"
    assert "云 &lt;b&gt;上面&lt;/b&gt;\nthe sea</textarea>" in browser.page.text


def test_a_description_is_priced_for_the_model_that_the_studio_selects(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    demo = files("app.catalog").joinpath("demo.toml").read_text(encoding="utf-8")
    changed = demo.replace('id = "demo"', 'id = "zeta"').replace('"16:9" = [112, 64]', '"16:9" = [224, 128]')
    (tmp_path / "zeta.toml").write_text(re.sub(r"(?m)^name = .*$", 'name = "Zeta"', changed), encoding="utf-8")
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    get_settings.cache_clear()
    load_catalog.cache_clear()
    with transaction() as session:
        offer = price_description(session, WORDS)
    # At the same price it has more native pixels than the demo model.
    assert (offer.model.id, offer.price.total.text) == ("zeta", "4.50")
    load_catalog.cache_clear()


def test_a_part_of_the_page_is_enough_for_htmx(site: Site):
    browser = site.browser()
    browser.get("/")
    answer = browser.send("/describe", {"description": WORDS}, **{"hx-request": "true"})
    assert "<html" not in answer.text
    assert "¥4.50" in answer.text


def test_what_is_no_description_is_refused(site: Site):
    browser = site.browser()
    browser.get("/")
    for words, reason in ((" ", "Say what the film shows."), ("a" * (DESCRIPTION_MAX + 1), "At most 500")):
        assert browser.send("/describe", {"description": words}).status_code == 422
        assert reason in browser.text()
    assert "cinemeter_description" not in browser.client.cookies
    assert browser.get("/describe").url.path == "/"
    # A cookie that was made by hand is text like any other, or nothing.
    browser.client.cookies.set("cinemeter_description", "%%%")
    assert browser.get("/").status_code == 200


def test_strangers_occupy_no_places_of_orders():
    assert declared_limits(landing.post_description).work is WorkKind.LIGHT


def test_prices_are_limited_by_network(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landing, "PRICES_MAX", 2)
    browser = site.browser()
    for _ in range(2):
        described(browser)
    browser.get("/")
    answer = browser.send("/describe", {"description": WORDS})
    assert answer.status_code == 429
    assert "Too many tries" in browser.text()
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    # A description from another site is refused before it is priced.
    assert browser.send("/describe", {"description": WORDS}, **{"sec-fetch-site": "cross-site"}).status_code == 403
