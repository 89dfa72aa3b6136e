"""Error pages: their message, and the log line with the request id that they show."""

import logging
import re

import pytest
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.web.studio import gallery
from tests.app.web.conftest import Site

FAILURES = [
    (RuntimeError("a stone in the works"), 500, "nothing was charged"),
    (DBAPIError("SELECT 1", None, Exception("broken")), 500, "nothing was charged"),
    (DataError("SELECT 1", None, Exception("out of range")), 500, "nothing was charged"),
    (OperationalError("SELECT 1", None, Exception("gone")), 503, "cannot reach its database"),
    (PoolTimeout("no connection is free"), 503, "cannot reach its database"),
]


@pytest.mark.parametrize(("failure", "status", "words"), FAILURES, ids=lambda each: type(each).__name__)
def test_an_error_page_shows_the_request_id_of_its_log_line(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    status: int,
    words: str,
):
    def broken(*_: object, **__: object) -> None:
        raise failure

    browser = site.browser("alice")
    monkeypatch.setattr(gallery, "list_films", broken)
    with caplog.at_level(logging.ERROR):
        answer = browser.get("/films")
    assert (answer.status_code, words in browser.text()) == (status, True)
    assert answer.headers["content-type"].startswith("text/html")
    request_id = re.search(r"request <code>(req_\w+)</code>", answer.text)[1]
    line = next(record for record in caplog.records if record.name == "app.api.problems")
    assert line.levelno == logging.ERROR
    part = browser.get("/films", **{"hx-request": "true"})
    assert (part.headers["hx-retarget"], "Request" in browser.text()) == ("#notices", True)
    assert request_id not in part.text, "every request has an id of its own"


def test_error_messages_use_field_labels(site: Site):
    browser = site.browser("alice")
    browser.get("/account/keys")
    browser.send("/account/keys", {"name": "farm", "scopes": ["videos"], "job_cap": "much"})
    assert "Job cap" in browser.text()
    assert "job_cap" not in browser.text()
