"""The studio's storyboard without scripts: words of the model, undo, tiers, wrong fields, and shots that are made."""

import re

import pytest

from app.catalog.models import load_catalog
from app.db import transaction
from app.dispatch import tier_start
from app.dispatch.tables import QueueSnapshot
from app.dispatch.tier_start import expected_starts
from app.dispatch.worker_registry import register_worker
from app.jobs.queue_tables import Unit
from app.jobs.settle import fail
from app.jobs.shot_progress import shot_progress
from app.jobs.tables import Job
from app.web.studio.draft_edits import has_word, toggled
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_studio import jobs
from workers.worker_loop import WorkerLoop

SHOTS = {
    "shot_prompt": ["a red circle", "a blue square", "a white triangle"],
    "shot_seconds": ["1", "2", "3"],
    "shot_transition": ["cut", "crossfade", "cut"],
    "model": "demo",
}


def prompts(browser: Browser) -> list[str]:
    return re.findall(r'name="shot_prompt"[^>]*>([^<]*)</textarea>', browser.page.text)


def form_of(browser: Browser) -> dict[str, object]:
    """Return the hidden fields of a removed shot, as the browser submits them again."""
    return dict(re.findall(r'name="(removed_\w+)" value="([^"]*)"', browser.page.text))


def test_every_model_that_renders_offers_words():
    for model in load_catalog().values():
        assert bool(model.prompt_words) == (model.family != "synthetic"), model.id
        assert all(words for words in model.prompt_words.values())


@pytest.mark.parametrize("separator", [" ", ", "])
def test_a_word_is_added_to_a_prompt_and_taken_out_again(separator: str):
    prompt = toggled("a red circle", "moves left", separator=separator)
    assert prompt == f"a red circle{separator}moves left"
    assert has_word(prompt, "moves left")
    assert not has_word("a red circle moves leftwards", "moves left")
    assert toggled(prompt, "moves left", separator=separator) == "a red circle"
    assert toggled("", "anime", separator=separator) == "anime"
    assert toggled("anime", "anime", separator=separator) == ""


@pytest.mark.parametrize(
    ("prompt", "after"),
    [
        ("a fox moves leftwards then moves left", "a fox moves leftwards then"),
        ("moves left, then moves left again", "moves left, then again"),
        ("a fox moves left. It runs", "a fox. It runs"),
        ("a fox, moves left; it runs", "a fox; it runs"),
        ("a fox\nmoves left\nit runs", "a fox\nit runs"),
        ("moves left, a fox", "a fox"),
        ("a fox moves\nleft", "a fox"),
        ("a fox (moves left)", "a fox ()"),
        ("a fox moves leftwards,", "a fox moves leftwards, moves left"),
        ("a fox moves left-handed", "a fox moves left-handed, moves left"),
    ],
)
def test_words_are_whole_words_and_the_last_one_goes(prompt: str, after: str):
    assert toggled(prompt, "moves left", separator=", ") == after


def test_a_button_adds_a_word_of_the_model_to_its_shot(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/draft", {**SHOTS, "action": "word:1:bounces"})
    assert prompts(browser) == ["a red circle", "a blue square bounces", "a white triangle"]
    assert re.search(r'data-word="bounces"[^>]* aria-pressed="true"', browser.page.text)
    assert browser.page.text.count('<details class="words" open>') == 1
    browser.send("/studio/draft", {**SHOTS, "action": "word:1:explodes"})
    assert prompts(browser) == SHOTS["shot_prompt"]
    # The model without a language offers none, and frames that a model cannot take are not shown.
    browser.send("/studio/draft", {**SHOTS, "model": "synthetic", "action": "redraw"})
    assert 'class="word"' not in browser.page.text


def test_the_start_of_a_tier_has_the_priors_of_forecasts():
    assert str(tier_start._WAITING_SQL).lstrip().startswith("WITH priors (model, p50, p90) AS (")
    assert "coalesce(p.p50, prior.p50, 1)" in str(tier_start._WAITING_SQL)


def test_a_removed_shot_is_restored_where_it_was(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    browser.send("/studio/draft", {**SHOTS, "action": "remove:1"})
    assert prompts(browser) == ["a red circle", "a white triangle"]
    assert "Shot 2 removed." in browser.text()
    rest = {name: [values[0], values[2]] for name, values in SHOTS.items() if isinstance(values, list)}
    browser.send("/studio/draft", {**rest, **form_of(browser), "model": "demo", "action": "restore"})
    assert prompts(browser) == SHOTS["shot_prompt"]
    assert re.findall(r'name="shot_seconds"[^>]* value="(\d+)"', browser.page.text) == ["1", "2", "3"]
    assert '<option value="crossfade" selected>' in browser.page.text
    assert "removed." not in browser.text()


def test_each_tier_has_its_price_and_its_start(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    film = {"shot_prompt": "a red circle", "shot_seconds": "5", "model": "demo", "resolution": "720P"}
    with transaction() as session:
        register_worker(session, "w", pools=["demo", "finish"], host="h", pid=1, device="cpu", facts={})
    browser.send("/studio/meter", film, **{"hx-request": "true"})
    offers = dict(re.findall(r'<small id="offer-(\w+)"[^>]*>(.*?)</small>', browser.page.text, re.DOTALL))
    texts = {name: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).strip() for name, html in offers.items()}
    assert texts == {
        "standard": "¥2.19 starts now",
        "flex": "¥1.10 starts now",
        "priority": "¥3.29 starts now",
    }


def test_the_start_of_a_tier_follows_the_queue(site: Site):
    account, other = site.accounts["alice"], site.accounts["bob"]
    with transaction() as session:
        order = {"pool": "demo", "account_id": account, "priorities": (0, 1, 2)}
        assert expected_starts(session, **order) == {0: None, 1: None, 2: None}
        register_worker(session, "w", pools=["demo"], host="h", pid=1, device="cpu", facts={})
        assert expected_starts(session, **order) == {0: 0, 1: 0, 2: 0}
        for owner, priority, units, seconds in ((other, 1, 10, 100), (account, 1, 2, 20), (other, 2, 1, 7)):
            session.execute(
                QueueSnapshot.__table__.insert().values(
                    {"pool": "demo", "class": priority, "account_id": owner, "units": units, "jobs": units}
                    | {"p50": seconds, "p90": seconds, "oldest": "2026-11-30T00:00:00Z", "marks": []}
                )
            )
        # Of the other account one unit of ten goes before; of one's own work all; and higher priorities go first.
        assert expected_starts(session, **order) == {0: 0, 1: 30, 2: 127}


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ({"shot_prompt": ["one", ""], "shot_seconds": ["1", "1"]}, "shots-1-prompt"),
        ({"shot_seconds": "0"}, "shots-0-seconds"),
        ({"seed": "99999999999"}, "seed"),
        ({"model": "nothing"}, "model"),
        ({"ratio": "7:5"}, "ratio"),
    ],
)
def test_the_reason_stands_beside_the_field_that_is_wrong(site: Site, form: dict[str, object], name: str):
    browser = site.browser("alice")
    browser.get("/studio")
    film = {"shot_prompt": "a red circle", "shot_seconds": "1", "model": "demo"}
    assert browser.send("/studio/orders", {**film, **form}).status_code == 422
    assert re.search(rf'<p class="wrong-text small" id="wrong-{name}">[^<]+</p>', browser.page.text)


def test_only_a_refused_order_moves_the_cursor(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    film = {"shot_prompt": "a red circle", "shot_seconds": "0", "model": "demo"}
    browser.send("/studio/draft", {**film, "action": "redraw"}, **{"hx-request": "true"})
    assert 'aria-errormessage="wrong-shots-0-seconds"' in browser.page.text
    assert "autofocus" not in browser.page.text
    browser.get("/studio")
    browser.send("/studio/orders", film)
    assert 'aria-errormessage="wrong-shots-0-seconds" autofocus' in browser.page.text


def test_shots_show_their_progress_and_play_when_they_are_done(site: Site):
    browser = site.browser("alice")
    browser.get("/studio")
    shots = {name: values for name, values in SHOTS.items() if name != "model"}
    browser.send("/studio/orders", {**shots, "model": "synthetic", "resolution": "480P"})
    [job] = jobs()
    browser.get(f"/films/{job.id}")
    assert re.findall(r'data-shot="\d" data-state="(\w+)"', browser.page.text) == ["waiting"] * 3
    assert browser.get(f"/films/{job.id}/clips/0/0").status_code == 404
    # A worker that renders and does not join: all shots are done, and there is no film yet.
    worker = WorkerLoop("worker-in-test", ["synthetic"])
    worker.open()
    worker.work()
    worker.close()
    browser.get(f"/films/{job.id}/shots")
    clips = re.findall(r'src="(/films/video_\w+/clips/\d/0)"', browser.page.text)
    assert len(clips) == browser.page.text.count('data-state="done"') == 3
    answer = browser.client.get(clips[2])
    assert (answer.headers["content-type"], answer.content[4:8]) == ("video/mp4", b"ftyp")
    assert answer.headers["x-content-type-options"] == "nosniff"
    part = browser.client.get(clips[2], headers={"range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert site.browser("bob").get(clips[2]).status_code == 404
    with transaction() as session:
        first, second, _ = session.query(Unit).filter_by(job_id=job.id, kind="segment").order_by(Unit.shot)
        first.state, second.state = "running", "ready"
        states = [(each.state, each.percent) for each in shot_progress(session, session.get_one(Job, job.id))]
        assert states == [("rendering", 0), ("waiting", 0), ("done", 100)]
        session.rollback()
    # A film that fails costs nothing, so its clips no longer play.
    with transaction() as session:
        fail(session, session.get_one(Job, job.id), code="out_of_memory", message="Out of memory.")
    assert browser.get(clips[2]).status_code == 404
    assert "<video" not in browser.get(f"/films/{job.id}/shots").text
