"""Reports of films: the public form tells nothing, and the desk removes a film and its copies for good."""

import re

import pytest
from sqlalchemy import select, update

from app.audit_log.tables import AuditEntry
from app.clock import now
from app.db import transaction
from app.events.tables import Event
from app.jobs.links import make_link
from app.jobs.tables import Job
from app.provenance.blocked_tables import BlockedFile, is_blocked
from app.provenance.registry_tables import RegistryFilm
from app.takedowns.tables import ContentReport, ReportSender
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order

FORM = {
    "category": "intimate_imagery",
    "details": "It shows me. <script>alert(1)</script>",
    "name": "Chen Wei",
    "email": "chen@example.com",
    "truthful": "yes",
}
SHA = "ab" * 32


@pytest.fixture
def film_id(site: Site) -> str:
    """A finished film of Alice, as the finish leaves it."""
    film_id = order(site.browser("alice")).removeprefix("/films/")
    with transaction() as session:
        moment = now(session)
        facts = {"sha256": SHA, "frames": 80, "fps": "16"}
        ended = {"state": "completed", "finished_at": moment, "film": facts, "film_key": "films/x.mp4"}
        session.execute(update(Job).where(Job.id == film_id).values(**ended))
        for each, reused in ((film_id, []), ("video_copy", [film_id])):
            session.add(
                RegistryFilm(
                    film_id=each,
                    account_id=site.accounts["alice"],
                    test=False,
                    sha256=SHA if each == film_id else "cd" * 32,
                    mark_id=None,
                    frame_hashes=b"",
                    hash_parts=[],
                    model="synthetic",
                    model_version="",
                    reused_films=reused,
                    policy={},
                    made_at=moment,
                )
            )
    return film_id


def report(site: Site, place: str, **changes: str) -> Browser:
    browser = site.browser()
    browser.get("/report")
    browser.send("/report", {**FORM, "place": place, **changes})
    return browser


def answer(browser: Browser) -> str:
    return re.sub(r"report_\w+|\d\d:\d\d:\d\d|request_\w+", "…", browser.text())


def test_the_answer_is_the_same_whether_or_not_there_is_a_film(site: Site, film_id: str) -> None:
    there, absent = (answer(report(site, place)) for place in (film_id, "video_" + "0" * 24))
    assert there == absent
    assert "Your report was received" in there
    with transaction() as session:
        rows = session.scalars(select(ContentReport).order_by(ContentReport.created_at)).all()
        assert [row.film_id for row in rows] == [film_id, None]
        assert {(row.due_at - row.created_at).total_seconds() for row in rows} == {7200}


def test_a_link_leads_to_its_film_also_after_it_was_revoked(site: Site, film_id: str) -> None:
    with transaction() as session:
        job = session.get_one(Job, film_id)
        link = make_link(session, job)
        job.links_revoked += 1
    report(site, f"I saw it at {link}, yesterday")
    with transaction() as session:
        assert session.scalars(select(ContentReport.film_id)).one() == film_id


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("category", "", "Choose what the report is about."),
        ("place", "", "Say where the film is, by its URL or its ID"),
        ("details", "x" * 4001, "Say what is wrong with the film, in at most 4000 characters."),
        ("name", " ", "Sign the report with your name, in at most 200 characters."),
        ("email", "nobody", "Give an e-mail address"),
        ("truthful", "", "made in good faith"),
    ],
)
def test_a_report_that_cannot_be_acted_upon_is_refused(site: Site, field: str, value: str, sentence: str) -> None:
    browser = report(site, "video_x", **{field: value}) if field != "place" else report(site, value)
    assert browser.page is not None
    assert browser.page.status_code == 422
    assert sentence in browser.text()
    assert "<script>alert" not in browser.page.text
    with transaction() as session:
        assert session.scalars(select(ContentReport)).all() == []


def test_an_operator_removes_the_film_and_blocks_its_file(site: Site, film_id: str) -> None:
    with transaction() as session:
        link = make_link(session, session.get_one(Job, film_id))
    report(site, link)
    desk = site.browser("author")
    desk.get("/admin/inbox")
    assert "A film was reported: Intimate pictures of a person" in desk.text()
    page = re.search(r"/admin/reports/report_\w+", desk.page.text)[0]
    desk.get(page)
    assert "<script>alert" not in desk.page.text
    assert f'value="{film_id}" checked' in desk.page.text
    assert "video_copy" in desk.text()
    refused = desk.send(f"{page}/removal", {"films": [film_id], "reason": " "})
    assert (refused.status_code, "Say why" in desk.text()) == (422, True)
    assert desk.send(f"{page}/removal", {"films": [film_id], "reason": "intimate pictures"}).status_code == 200
    assert "removed" in desk.text()
    stranger = site.browser()
    assert stranger.client.get(link.partition("testserver")[2] or link).status_code == 404
    assert site.browser("alice").get(f"/films/{film_id}").status_code == 404
    with transaction() as session:
        assert is_blocked(session, SHA)
        assert session.scalars(select(BlockedFile.film_id)).all() == [film_id]
        events = session.scalars(select(Event).where(Event.type == "video.removed")).all()
        assert [(event.account_id, event.job_id) for event in events] == [(site.accounts["alice"], film_id)]
        assert "Chen" not in events[0].body
        entry = session.scalars(select(AuditEntry).where(AuditEntry.act == "report.removed")).one()
        assert entry.facts["films"] == [film_id]
    again = desk.send(f"{page}/removal", {"films": [film_id], "reason": "again"})
    assert (again.status_code, "decided already" in desk.text()) == (409, True)


def test_the_log_and_a_closed_report_hold_nothing_personal_once_the_sender_is_erased(site: Site, film_id: str) -> None:
    report(site, film_id, category="copyright")
    desk = site.browser("author")
    with transaction() as session:
        report_id = session.scalars(select(ContentReport.id)).one()
    desk.get(f"/admin/reports/{report_id}")
    desk.send(f"/admin/reports/{report_id}/closure", {"reason": "=parody"})
    assert "kept" in desk.text()
    log = desk.get("/admin/reports/log.csv").text
    assert report_id in log
    assert "'=parody" in log
    for personal in ("Chen", "example.com", "It shows me"):
        assert personal not in log
    with transaction() as session:
        session.delete(session.get_one(ReportSender, report_id))
    assert "erased" in (desk.get(f"/admin/reports/{report_id}") and desk.text())
    # An admin without the role reads, and cannot decide.
    reader = site.browser("approver")
    reader.get("/admin/reports")
    assert reader.send(f"/admin/reports/{report_id}/closure", {"reason": "x"}).status_code == 403
