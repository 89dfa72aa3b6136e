"""The studio says what the model takes from a prompt, asks before it orders an unknown subject, and shows code."""

import json
import re
from html import unescape

from app.accounts.keys import issue_key
from app.db import transaction
from app.dispatch.worker_registry import register_worker
from tests.app.web.conftest import Site
from tests.app.web.test_studio import jobs, total

FILM = {"shot_prompt": "golden retriever surfing", "shot_seconds": "5", "model": "demo", "resolution": "720P"}
CLEAR = {**FILM, "shot_prompt": "a red circle moves left on a blue background"}


def test_the_meter_says_what_the_model_takes_from_each_prompt(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    form = {**FILM, "shot_prompt": [FILM["shot_prompt"], "红色的圆在蓝色背景上向左移动"], "shot_seconds": ["2", "2"]}
    browser.send("/studio/meter", form, **{"hx-request": "true"})
    lines = re.findall(r'<p data-for="(understood-\d)">(.*?)</p>', browser.page.text, re.DOTALL)
    assert [name for name, _ in lines] == ["understood-1", "understood-2"]
    assert '<span class="term near">golden → yellow</span>' in lines[0][1]
    assert "<s>retriever</s>" in lines[0][1]
    assert "The model does not know this subject." in lines[0][1]
    assert re.findall(r'<span class="term">(\S+)</span>', lines[1][1]) == ["红色", "圆", "蓝色", "向左移动"]
    assert "near" not in lines[1][1]


def test_an_unknown_subject_is_asked_about_before_it_is_ordered(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    assert browser.send("/studio/orders", FILM).status_code == 200
    assert "No subject that this model knows; it draws a circle. Generate it anyway?" in browser.text()
    assert "Generate anyway · ¥2.19" in browser.text()
    assert "golden retriever surfing</textarea>" in browser.page.text
    assert jobs() == []
    browser.send("/studio/orders", {**FILM, "anyway": "yes"})
    assert [job.prompt for job in jobs()] == ["golden retriever surfing"]


def test_after_an_order_the_prompt_is_kept_for_a_film_with_a_new_seed(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/orders", {**CLEAR, "seed": "7"})
    assert "a red circle moves left on a blue background</textarea>" in browser.page.text
    assert re.search(r'id="seed"[^>]* value=""', browser.page.text)
    assert "Again with a new seed" in browser.text()
    browser.send("/studio/orders", CLEAR)
    first, second = jobs()
    assert first.prompt == second.prompt
    assert first.spec["seed"] == 7 != second.spec["seed"]


def test_a_field_is_marked_where_it_is_wrong(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    for form, name in (
        ({**CLEAR, "shot_prompt": ["one", ""], "shot_seconds": ["1", "1"]}, "shot-2-prompt"),
        ({**CLEAR, "shot_seconds": "0"}, "shot_seconds"),
        ({**CLEAR, "seed": "99999999999"}, "seed"),
    ):
        assert browser.send("/studio/orders", form).status_code == 422
        [wrong] = re.findall(r'<[^>]*aria-invalid="true"[^>]*>', browser.page.text)
        assert name in wrong


def test_seconds_that_no_shot_can_have_have_no_price(site: Site):
    browser = site.browser("alice")
    for text in ("-1", "0", "61", "3.5", "", "1e3"):
        browser.get("/studio")
        browser.send("/studio/meter", {**CLEAR, "shot_seconds": text}, **{"hx-request": "true"})
        assert total(browser) == "–", text
        assert "Shot 1: 1–60 whole seconds." in browser.text()
        assert re.search(r'<button id="generate"[^>]* disabled>', browser.page.text)


def test_a_seed_out_of_range_is_refused_in_words(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/meter", {**CLEAR, "seed": "2147483648"}, **{"hx-request": "true"})
    assert "Seed: a whole number from 0 to 2,147,483,647." in browser.text()


def test_examples_fill_three_shots_that_are_fully_understood(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    examples = re.findall(r'href="(/studio\?example=\w+)"', browser.page.text)
    assert len(examples) == 6
    for example in examples:
        browser.get(example)
        assert browser.page.text.count('name="shot_prompt"') == 3
        assert browser.page.text.count('class="understood-title"') == 3
        assert "term near" not in browser.page.text, example


def test_the_order_is_shown_as_code_that_costs_the_same(site: Site):
    browser = site.browser("alice")
    form = {**CLEAR, "shot_prompt": ["it's a red circle", "a blue square"], "shot_seconds": ["1", "2"], "seed": "7"}
    browser.get("/studio")
    browser.send("/studio/code", {**form, "shot_transition": ["cut", "crossfade"]})
    shown = total(browser)
    curl = unescape(re.search(r'<code id="code-curl-text">(.*?)</code>', browser.page.text, re.DOTALL)[1])
    body = json.loads(curl.partition("-d '")[2].rstrip().removesuffix("'").replace("'\\''", "'"))
    assert body["shots"][0]["prompt"] == "it's a red circle"
    with transaction() as session:
        _, key = issue_key(session, site.accounts["alice"], scopes=["videos"])
    headers = {"authorization": f"Bearer {key}"}
    priced = browser.client.post("/v1/videos/estimates", json=body, headers=headers).json()
    assert f"¥{priced['total']}" == shown
    assert priced["resolved"]["seed"] == 7
    for name in ("Python", "JavaScript"):
        assert f'aria-label="{name}"' in browser.page.text


def test_the_studio_says_that_no_worker_runs_and_what_happens_to_the_money(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    assert "No worker is running. Films wait until one returns." in browser.text()
    browser.send("/studio/orders", CLEAR)
    assert "Ordered. Open film" in browser.text()
    [film] = jobs()
    browser.get(f"/films/{film.id}")
    assert "Your film starts when one returns. Until then nothing is charged; cancelling is free." in browser.text()
    assert "next in line" not in browser.text()
    with transaction() as session:
        register_worker(session, "w-1", pools=["finish", "demo"], host="h", pid=1, device="cpu", facts={})
    browser.get("/studio")
    assert "No worker" not in browser.text()


def test_test_mode_shows_no_price_to_pay_and_offers_colour_bars(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    assert 'value="synthetic"' not in browser.page.text
    browser.send("/test-mode", {"test": "on"})
    browser.get("/studio")
    assert total(browser) == "Free (test)"
    assert "nothing is held or charged" in browser.text()
    assert "with Cinemeter demo" not in browser.text()
    assert 'value="synthetic"' in browser.page.text
