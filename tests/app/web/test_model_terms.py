"""The console shows the terms of models, and an operator accepts them there."""

import re

from app.audit_log.log import list_entries
from app.catalog.models import load_catalog
from app.db import transaction
from app.jobs.model_terms import acknowledgement_of
from tests.app.web.conftest import Site

MODEL = "kandinsky6-lite"


def test_an_operator_accepts_the_terms_of_a_model(site: Site):
    browser = site.browser("author")
    browser.get("/admin/workers")
    assert "CC-BY-NC-4.0" in browser.text()
    words = re.search(rf'/admin/models/{MODEL}/acknowledge".*?name="words" value="(\w+)"', browser.page.text)
    assert words is not None
    action, form = f"/admin/models/{MODEL}/acknowledge", {"words": words[1]}
    browser.send(action, form)
    assert "accepted" in browser.text()
    with transaction() as session:
        assert acknowledgement_of(session, load_catalog()[MODEL]) is not None
        assert [entry.act for entry in list_entries(session, subject=MODEL)] == ["model.terms_acknowledged"]
    assert browser.send(action, form).status_code == 409


def test_words_that_were_not_shown_are_not_accepted(site: Site):
    browser = site.browser("author")
    browser.get("/admin/workers")
    assert browser.send(f"/admin/models/{MODEL}/acknowledge", {"words": "0" * 64}).status_code == 409
    with transaction() as session:
        assert acknowledgement_of(session, load_catalog()[MODEL]) is None
