"""Refused films on pages: nobody sees anything of them but moderators, whose looks are logged."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.accounts.members import add_member
from app.audit_log.actor import Actor
from app.audit_log.tables import AuditEntry
from app.clock import now
from app.db import transaction
from app.dispatch.retention import expired_quarantine, unreferenced_quarantine
from app.jobs.quarantine import see_quarantined
from app.jobs.quarantine_tables import QuarantinedFilm
from app.jobs.review import POLICY_ACTOR, decide_review, open_review_of
from app.jobs.tables import Job
from app.moderation.outcomes import Decision
from app.moderation.refusal_tables import OrderStop
from app.moderation.repeaters import count_refusal
from app.roles import Role
from app.storage import get_storage
from tests.app.moderation.conftest import PolicyWriter
from tests.app.moderation.conftest import policy as policy
from tests.app.web.conftest import Site
from tests.app.web.test_ends import order
from workers.worker_loop import WorkerLoop

pytestmark = pytest.mark.xdist_group("service")


def render(pool: str) -> None:
    """Work off one pool in this process."""
    worker = WorkerLoop(f"worker of {pool}", [pool])
    worker.open()
    try:
        worker.work()
    finally:
        worker.close()


def test_shots_are_shown_once_the_film_has_passed(site: Site, policy: PolicyWriter) -> None:
    server = policy()
    browser = site.browser("alice")
    film = order(browser)
    render("synthetic")
    assert browser.get(f"{film}/clips/0/0").status_code == 404
    assert "/clips/0/0" not in browser.get(f"{film}/shots").text
    policy(more="[pictures]\npreviews = true")
    assert browser.get(f"{film}/clips/0/0").status_code == 200
    policy()
    server.flags = True
    render("finish")
    policy(more="[pictures]\npreviews = true")
    assert browser.get(f"{film}/clips/0/0").status_code == 404
    page = browser.get(film)
    assert page.status_code == 200
    assert "violence/graphic" in browser.text()
    assert not any(part in page.text for part in ("/content", "/clips/", "<video", "/files/"))
    assert film not in site.browser().get("/").text


def test_only_moderators_see_a_refused_film_and_each_look_is_logged(site: Site, policy: PolicyWriter) -> None:
    server = policy()
    server.flags = True
    job_id = order(site.browser("alice")).removeprefix("/films/")
    site.work()
    with transaction() as session:
        assert session.get_one(Job, job_id).error_code == "content_refused"
        password = "another long password"
        add_member(
            session, site.accounts["author"], "mo@example.com", roles=(Role.MODERATOR,), password=password, name="Mo"
        )
    path = f"/admin/quarantine/{job_id}/film"
    for name in ("alice", "author", "approver"):
        browser = site.browser(name)
        assert [browser.get(each).status_code for each in ("/admin/quarantine", path)] == [403, 403]
    moderator = site.browser()
    moderator.sign_in("mo@example.com", password)
    assert path in moderator.get("/admin/quarantine").text
    assert seen() == []
    # However the film is asked for, the look is logged; its further parts belong to it.
    assert moderator.get(path, range="bytes=1-").status_code == 206
    assert seen() == [job_id]
    answer = moderator.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-store")
    assert answer.content[4:8] == b"ftyp"
    assert moderator.get(path, range="bytes=100-200").status_code == 206
    assert seen() == [job_id]
    with transaction() as session:
        # A later look is another one.
        session.info["clock_offset"] = timedelta(minutes=11)
        person = session.scalars(select(AuditEntry.actor).where(AuditEntry.act == "quarantine.seen")).one()
        see_quarantined(session, Actor(person, "session", frozenset({str(Role.MODERATOR)})), job_id)
    assert seen() == [job_id] * 2
    with transaction() as session:
        session.execute(update(QuarantinedFilm).values(expires_at=now(session)))
        key = session.scalars(select(QuarantinedFilm.key)).one()
    assert moderator.get(path).status_code == 410
    assert [expired_quarantine(), expired_quarantine()] == [1, 0]
    assert get_storage().stat(key) is None
    assert unreferenced_quarantine() == 0
    assert path not in moderator.get("/admin/quarantine").text
    assert moderator.get(path).status_code == 410


def test_a_finished_film_in_review_is_opened_from_its_page(site: Site, policy: PolicyWriter) -> None:
    server = policy(review=["violence", "violence/graphic"], more="[pictures]\npreviews = true\nquarantine_days = 0")
    server.flags = True
    customer = site.browser("alice")
    film = order(customer)
    job_id = film.removeprefix("/films/")
    site.work()
    assert customer.get(f"{film}/clips/0/0").status_code == 404
    assert "/clips/0/0" not in customer.get(f"{film}/shots").text
    password = "another long password"
    with transaction() as session:
        review = open_review_of(session, job_id)
        assert review is not None
        for name, role in (("mo", Role.MODERATOR), ("op", Role.OPERATOR)):
            email = f"{name}@example.com"
            add_member(session, site.accounts["author"], email, roles=(role,), password=password, name=name)
    path = f"/admin/quarantine/{job_id}/film"
    browsers = {}
    for name in ("mo", "op"):
        browsers[name] = site.browser()
        browsers[name].sign_in(f"{name}@example.com", password)
    # For so long as it is to be decided, whoever may decide sees it, though the policy keeps no refused film.
    assert expired_quarantine() == 0
    for browser in browsers.values():
        assert path in browser.get(f"/admin/moderation/{review.id}").text
        assert browser.get(path).status_code == 200
    assert seen() == [job_id] * 2
    assert path in browsers["mo"].get("/admin/quarantine").text
    with transaction() as session:
        decide_review(session, POLICY_ACTOR, review.id, Decision.REFUSE, reason="seen")
    assert path not in browsers["op"].get(f"/admin/moderation/{review.id}").text
    assert [browsers[name].get(path).status_code for name in ("op", "mo")] == [403, 410]
    assert expired_quarantine() == 1


def seen() -> list[str]:
    """Return whose films the audit log says that moderators have seen."""
    with transaction() as session:
        return list(session.scalars(select(AuditEntry.subject).where(AuditEntry.act == "quarantine.seen")))


def test_an_operator_takes_orders_again_that_were_stopped(site: Site, policy: PolicyWriter) -> None:
    policy(more="[repeaters]\nslow_after = 2\nstop_after = 2")
    with transaction() as session:
        for _ in range(2):
            count_refusal(session, site.accounts["alice"], scope="", test=False)
        stop = session.scalars(select(OrderStop)).one()
    operator = site.browser("author")
    assert f"/admin/accounts/{site.accounts['alice']}" in operator.get("/admin/inbox").text
    assert "Orders without a project are stopped." in operator.get(f"/admin/accounts/{site.accounts['alice']}").text
    # Not by the page of another account.
    assert operator.send(f"/admin/accounts/{site.accounts['bob']}/orders", {"stop": stop.id}).status_code == 404
    assert site.browser("approver").send(f"/admin/accounts/{site.accounts['alice']}/orders").status_code == 403
    operator.get(f"/admin/accounts/{site.accounts['alice']}")
    operator.send(f"/admin/accounts/{site.accounts['alice']}/orders", {"stop": stop.id})
    assert "Orders are taken again." in operator.text()
    assert "are stopped" not in operator.text()
