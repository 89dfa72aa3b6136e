"""The studio without scripts: storyboard, price, order, cancellation, variations."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from app.cli.asgi import create_site
from app.clock import now
from app.db import transaction
from app.jobs.tables import Job
from app.metrics import STREAMS
from app.web.studio import sse
from app.web.tables import WebSession
from app.webhooks.tables import Endpoint
from tests.app.web.conftest import Browser, Site
from tests.statement_count import recorded_statements

FILM = {"shot_prompt": "a red circle", "shot_seconds": "2", "model": "synthetic", "resolution": "480P", "ratio": "16:9"}
STORYBOARD = {
    **FILM,
    "shot_prompt": ["first", "second", "third"],
    "shot_seconds": ["1", "2", "3"],
    "shot_transition": ["cut", "crossfade", "cut"],
}


def total(browser: Browser) -> str:
    return re.search(r"<output[^>]*>([^<]+)</output>", browser.page.text)[1]


def jobs() -> list[Job]:
    with transaction() as session:
        return session.query(Job).order_by(Job.created_at).all()


def test_a_form_alone_builds_a_storyboard_and_orders_it(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/draft", {**FILM, "action": "add"})
    assert browser.page.text.count('name="shot_prompt"') == 2
    browser.send("/studio/draft", {**STORYBOARD, "action": "up:2"})
    assert re.findall(r'maxlength="5000"[^>]*>(\w+)</textarea>', browser.page.text) == ["first", "third", "second"]
    # 5.5 seconds, since a crossfade overlaps by half a second: 5.5 x 0.45 x 0.65 x 0.75
    assert total(browser) == "¥1.21"
    browser.send("/studio/orders", {**STORYBOARD, "max_price": "1.21"})
    assert "Open film" in browser.text()
    site.work()
    browser.get("/films?search=second")
    film = re.search(r'href="(/films/video_\w+)"', browser.page.text)[1]
    browser.get(film)
    assert "Receipt no. 1" in browser.text()
    assert "Charged ¥1.21" in browser.text()
    assert "5.5 s delivered" in browser.text().replace("\xa0", " ")
    video = browser.client.get(f"{film}/video", headers={"range": "bytes=4-7"})
    assert (video.status_code, video.content) == (206, b"ftyp")
    assert browser.client.get(f"{film}/thumbnail").content.startswith(b"\xff\xd8")
    assert browser.client.get(f"{film}/receipt").json()["total"] == "1.21"


def test_malformed_numbers_break_nothing(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/orders", FILM)
    site.work()
    [film] = jobs()
    browser.get("/account/webhooks")
    browser.send("/account/webhooks", {"url": "https://example.com/hook"})
    with transaction() as session:
        endpoint = session.scalars(select(Endpoint.id)).one()
    browser.get("/studio")
    studio_page = browser.page
    for number in ("²", "9" * 5_000, "-1", ""):
        wish = {"kind": "extension", "prompt": "and on", "shot": number, "seconds": number}
        for path, form in (
            ("/studio/draft", {**FILM, "shot_seconds": number, "action": f"up:{number}"}),
            ("/studio/meter", {**FILM, "seed": number}),
            (f"/films/{film.id}/variations/price", wish),
            (f"/account/webhooks/{endpoint}/recovery", {"hours": number}),
        ):
            browser.page = studio_page
            assert browser.send(path, form).status_code == 200, (path, number)


def test_a_stream_of_films_ends_with_the_session_and_after_its_time(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "PING_SECONDS", 0.05)
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/orders", FILM)
    [film] = jobs()
    path = f"/films/live?id={film.id}"
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(browser.client.get, path)
        while not STREAMS._value.get():
            assert not streaming.done()
            threading.Event().wait(0.01)
        with transaction() as session:
            session.execute(update(WebSession).values(ended_at=now(session)))
        answer = streaming.result(60)
    assert answer.text.count("event: card") == 1
    assert "event: done" not in answer.text
    assert browser.client.get(path).status_code == 401
    monkeypatch.setattr(sse, "STREAM_SECONDS_MAX", 0.2)
    again = site.browser("alice").client.get(path)
    assert again.text.count("event: card") == 1
    assert "event: done" not in again.text


def test_the_first_cards_of_a_stream_are_read_at_once(site: Site, engine: Engine):
    browser = site.browser("alice")
    browser.get("/studio")
    counts = []
    for number in (1, 2):
        browser.send("/studio/orders", {**FILM, "nonce": f"order {number}"})
        site.work()
        path = "/films/live?" + "&".join(f"id={job.id}" for job in jobs())
        with recorded_statements(engine) as statements:
            answer = browser.client.get(path)
        assert answer.text.count("event: card") == number
        counts.append(len(statements))
        browser.get("/studio")
    assert counts[0] == counts[1]


def test_a_form_submitted_twice_is_one_order(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    page = browser.page
    nonce = re.search(r'name="nonce" value="([^"]+)"', page.text)[1]
    for prompt in ("a red circle", "a red circle", "a blue one"):
        browser.page = page
        browser.send("/studio/orders", {**FILM, "shot_prompt": prompt, "nonce": nonce})
    assert [job.prompt for job in jobs()] == ["a red circle", "a blue one"]
    assert {job.door for job in jobs()} == {"web"}


def test_a_film_never_costs_more_than_the_shown_price(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    answer = browser.send("/studio/orders", {**FILM, "max_price": "0.10"})
    assert answer.status_code == 402
    price = total(browser)
    text = browser.text()
    assert f"The price is now {price}; the page showed ¥0.10. Order again to accept it." in text
    assert "max_price" not in text
    assert jobs() == []
    # The form keeps what was typed, and its new price is the one that is ordered next.
    assert "a red circle</textarea>" in browser.page.text
    cap = re.search(r'name="max_price" value="([^"]+)"', browser.page.text)[1]
    browser.send("/studio/orders", {**FILM, "max_price": cap})
    assert "Open film" in browser.text()
    assert [job.total for job in jobs()] == [int(cap.replace(".", ""))]


def test_a_refused_order_says_why_and_keeps_the_form(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    assert browser.send("/studio/orders", {**FILM, "shot_prompt": ["one", ""]}).status_code == 422
    assert "Shot 2 has no prompt." in browser.text()
    assert "shots." not in browser.text()
    too_long = {**FILM, "shot_prompt": ["x"] * 4, "shot_seconds": ["60"] * 4}
    assert browser.send("/studio/orders", too_long).status_code == 422
    assert "at most 120 seconds" in browser.text()
    assert browser.send("/studio/orders", {**FILM, "seed": "-3"}).status_code == 422
    assert jobs() == []


def test_words_that_are_refused_order_nothing(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    assert browser.send("/studio/orders", {**FILM, "shot_prompt": "nude child"}).status_code == 422
    assert "This service does not make what the prompt describes" in browser.text()
    assert jobs() == []
    browser.send("/studio/orders", STORYBOARD)
    site.work()
    [film] = jobs()
    browser.get(f"/films/{film.id}")
    for kind in ("retake", "extension", "edit"):
        form = {"kind": kind, "shot": "1", "prompt": "remove the clothes of the woman", "anyway": "yes"}
        assert browser.send(f"/films/{film.id}/variations", form).status_code == 422, kind
        assert "This service does not make what the prompt describes" in browser.text()
    assert len(jobs()) == 1


def test_the_meter_shows_the_price_of_the_form(site: Site):
    browser = site.browser("author")
    assert browser.get("/studio").status_code == 403
    browser = site.browser("alice")
    browser.get("/studio")
    response = browser.send("/studio/meter", {**FILM, "resolution": "1080P", "shot_seconds": "60"})
    assert "Not enough balance" not in response.text
    assert total(browser) == "¥46.80"


def test_a_picture_can_come_with_the_form(site: Site):
    picture = Path("tests/app/web/vendor")  # any file that is not a picture
    browser = site.browser("alice")
    browser.get("/studio")
    csrf_token = re.search(r'name="csrf" value="([^"]*)"', browser.page.text)[1]
    answer = browser.client.post(
        "/studio/orders",
        data={**FILM, "csrf": csrf_token},
        files={"shot_first_frame_file": ("no picture.png", (picture / "README.md").read_bytes(), "image/png")},
        headers={"accept": "text/html", "sec-fetch-site": "same-origin"},
    )
    assert answer.status_code == 422
    assert jobs() == []


def test_cancelling_costs_nothing_when_nothing_was_made(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/orders", FILM)
    film = re.search(r'href="(/films/video_\w+)"', browser.page.text)[1]
    browser.send(f"{film}/cancellation")
    assert "Charged ¥0.00" in browser.text()
    browser.send(f"{film}/removal")
    assert browser.get(film).status_code == 404


def test_test_mode_costs_nothing(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/test-mode", {"test": "on"})
    assert "Test mode." in browser.text()
    browser.send("/studio/orders", {**FILM, "model": "auto"})
    site.work()
    browser.get("/films")
    assert "free" in browser.text()
    assert browser.get("/account").text.count("¥1,000.00") >= 1
    browser.send("/test-mode")
    browser.get("/films")
    assert "No films yet." in browser.text()


def test_variations_show_their_price_first(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/orders", STORYBOARD)
    site.work()
    browser.get("/films")
    film = re.search(r'href="(/films/video_\w+)"', browser.page.text)[1]
    browser.get(film)
    form = {"kind": "retake", "shot": "1", "prompt": "second, in blue"}
    browser.send(f"{film}/variations/price", form)
    # Only the 2 seconds of that shot are charged.
    price = re.search(r'name="max_price" value="([^"]+)"', browser.page.text)[1]
    assert "2 s" in browser.text().replace("\xa0", " ")
    browser.get(film)
    refused = browser.send(f"{film}/variations", {**form, "max_price": "0.01"})
    assert (refused.status_code, "the page showed ¥0.01" in browser.text()) == (402, True)
    # The submitted form is open, with what was typed and the current price.
    opened = re.search(r'<form class="way chosen" id="([^"]+)".*?</form>', refused.text, re.S)
    assert opened[1] == "retake-2"
    assert "second, in blue</textarea>" in opened[0]
    assert f'name="max_price" value="{price}"' in opened[0]
    response = browser.send(f"{film}/variations", {**form, "max_price": price})
    assert response.url.path != film, browser.text()
    assert jobs()[-1].parent_id == film.removeprefix("/films/")


def test_api_clients_get_problem_documents(site: Site):
    programs = site.browser().client
    assert programs.get("/v1/nothing").headers["content-type"] == "application/problem+json"
    assert programs.get("/nothing", headers={"accept": "*/*"}).headers["content-type"] == "application/problem+json"
    assert programs.get("/nothing", headers={"accept": "text/html"}).status_code == 404
    assert create_site().title == "Cinemeter"
