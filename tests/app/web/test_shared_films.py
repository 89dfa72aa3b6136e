"""Share links: a public page of one film, until it expires, is revoked, or the film may not be seen any more."""

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from sqlalchemy import text, update

from app.audit_log.actor import SYSTEM_ACTOR
from app.audit_log.log import list_entries
from app.clock import now
from app.db import transaction
from app.erasure.erase import run_erasure, start_erasure
from app.erasure.tables import ErasureKind
from app.errors import AppError
from app.jobs.share_links import OPEN_MAX, open_share_link, revoke_share_link, share_film, share_links_of
from app.jobs.share_tables import ShareLink
from app.jobs.tables import Job
from app.provenance.blocked_tables import BlockedFile
from app.settings import get_settings
from app.takedowns.tables import ContentReport
from app.web import shared_film
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order

WORDS = "a film for my friends"


def finished_film(site: Site, browser: Browser) -> str:
    film = order(browser, shot_prompt=WORDS, shot_seconds="2").removeprefix("/films/")
    site.work()
    return film


def share(browser: Browser, film: str, days: str = "30") -> str:
    """Share a film on its page and return the path of the link."""
    browser.get(f"/films/{film}")
    answer = browser.send(f"/films/{film}/shares", {"days": days})
    [path] = re.findall(r"(/shared/[\w.~-]+)</a>", answer.text)
    return str(path)


def test_a_film_is_seen_by_everybody_who_has_the_link_until_it_is_revoked(site: Site) -> None:
    alice, visitor = site.browser("alice"), site.browser()
    film = finished_film(site, alice)
    path = share(alice, film)
    page = visitor.get(path)
    assert page.status_code == 200
    assert (page.headers["x-robots-tag"], 'name="robots" content="noindex' in page.text) == (
        "noindex, nofollow, noarchive",
        True,
    )
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "2 seconds" in visitor.text()
    assert "C2PA" in visitor.text()
    # Nothing of the account, and nothing that leads to the film without the link.
    for word in (WORDS, film, "alice", "Alice", site.accounts["alice"]):
        assert word not in page.text
    seen = visitor.get(f"{path}/video", range="bytes=4-7")
    assert (seen.status_code, seen.content, seen.headers["cache-control"]) == (206, b"ftyp", "no-store")
    assert visitor.get(f"{path}/thumbnail").headers["content-type"] == "image/jpeg"
    assert "分享的影片" in visitor.get(path, **{"accept-language": "zh"}).text

    # The form for reports knows the film by its link.
    [report] = re.findall(r'href="(/report\?place=[^"]+)"', page.text)
    assert unquote(report).endswith(path)
    typed = {"category": "copyright", "details": "It is mine.", "name": "Chen Wei", "email": "chen@example.com"}
    visitor.get(report)
    assert path in visitor.page.text
    visitor.send("/report", {**typed, "place": f"http://testserver{path}", "truthful": "yes"})
    with transaction() as session:
        assert session.query(ContentReport).one().film_id == film
        [link] = share_links_of(session, session.get_one(Job, film))
    alice.get(f"/films/{film}")
    alice.send(f"/films/{film}/shares", {"revoke": link.id})
    assert visitor.get(path).status_code == 404
    assert visitor.get(f"{path}/video").status_code == 404
    with transaction() as session:
        acts = [each.act for each in list_entries(session, subject=film)]
    assert acts == ["film.share_revoked", "film.shared"]


def shared(site: Site) -> tuple[str, str, Browser]:
    """A finished film, the token of its link, and a visitor who has it."""
    alice = site.browser("alice")
    film = finished_film(site, alice)
    return film, share(alice, film).removeprefix("/shared/"), site.browser()


# What ends a link without its owner. `film` and `account` are ids.
ENDS = (
    "UPDATE share_links SET expires_at = now() - interval '1 second' WHERE job_id = :film",
    "UPDATE jobs SET deleted_at = now() WHERE id = :film",
    "UPDATE jobs SET files_removed_at = now() WHERE id = :film",
    "UPDATE jobs SET files_expire_at = now() - interval '1 second' WHERE id = :film",
    "UPDATE accounts SET suspended_at = now() WHERE id = :account",
    "INSERT INTO blocked_files SELECT film ->> 'sha256', 'video_1', 'report_1', now() FROM jobs WHERE id = :film",
)


def test_what_may_not_be_seen_is_not_seen_and_all_refusals_look_alike(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, token, visitor = shared(site)

    def refusal(path: str) -> tuple[int, str]:
        answer = visitor.get(path)
        # The number of the request and the path are the only difference.
        return answer.status_code, re.sub(r"req_\w+", "", answer.text.replace(path, "").replace(token, ""))

    unknown = refusal("/shared/nothing")
    assert unknown[0] == 404
    assert refusal(f"/shared/{token}x") == unknown
    for statement in ENDS:
        with transaction() as session:
            assert open_share_link(session, token).id == film
            names = {"film": film, "account": site.accounts["alice"]}
            session.execute(text(statement), {name: names[name] for name in names if f":{name}" in statement})
            session.expire_all()
            with pytest.raises(AppError, match="leads to no film"):
                open_share_link(session, token)
            session.rollback()
    # Pages, not only the verb: the same refusal for each of the reasons.
    with transaction() as session:
        session.execute(update(ShareLink).values(expires_at=now(session) - timedelta(seconds=1)))
    assert refusal(f"/shared/{token}") == unknown
    with transaction() as session:
        session.execute(update(ShareLink).values(expires_at=now(session) + timedelta(days=1)))
    policy = tmp_path / "policy.toml"
    policy.write_text("[sharing]\nallowed = false\n", encoding="utf-8")
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(policy))
    get_settings.cache_clear()
    assert refusal(f"/shared/{token}") == unknown
    alice = site.browser("alice")
    alice.get(f"/films/{film}")
    assert "Make a link" not in alice.text()
    with transaction() as session, pytest.raises(AppError, match="makes no share links"):
        share_film(session, SYSTEM_ACTOR, session.get_one(Job, film))
    monkeypatch.delenv("CINEMETER_MODERATION_POLICY")
    get_settings.cache_clear()
    assert visitor.get(f"/shared/{token}").status_code == 200
    monkeypatch.setattr(shared_film, "PAGES_MAX", 1)
    assert visitor.get(f"/shared/{token}").status_code == 429


def test_the_page_states_only_what_is_known_of_the_file(site: Site) -> None:
    film, token, visitor = shared(site)
    metadata, watermark, none = "a signed manifest says by what", "An invisible watermark", "has no marks"

    def lines() -> list[bool]:
        visitor.get(f"/shared/{token}")
        return [line in visitor.text() for line in (metadata, watermark, none)]

    assert lines() == [True, True, False]
    # A film that is older than the marks, and what a backfill makes of it.
    change(film, "UPDATE registry_films SET model_version = '', mark_id = NULL WHERE film_id = :film")
    assert lines() == [False, False, True]
    change(film, "INSERT INTO backfill_claims VALUES (:film, 'running', 'key', now(), '', now())")
    assert lines() == [False, False, True]
    change(film, "UPDATE backfill_claims SET state = 'marked' WHERE film_id = :film")
    assert lines() == [True, False, False]
    # Its order may be one that this release cannot read.
    change(film, """UPDATE jobs SET spec = spec || '{"version": 2}' WHERE id = :film""")
    assert visitor.get(f"/shared/{token}").status_code == 404
    assert "This link leads to no film." in visitor.text()


def change(film: str, statement: str) -> None:
    with transaction() as session:
        session.execute(text(statement), {"film": film})


def test_links_are_bounded_and_end_with_an_erasure(site: Site) -> None:
    film, token, _ = shared(site)
    with transaction() as session:
        job = session.get_one(Job, film)
        for seconds in (299, 91 * 86_400):
            with pytest.raises(AppError, match="works for 300 to"):
                share_film(session, SYSTEM_ACTOR, job, seconds=seconds)
        links = [share_film(session, SYSTEM_ACTOR, job, seconds=300) for _ in range(OPEN_MAX - 1)]
        with pytest.raises(AppError, match="revoke one first"):
            share_film(session, SYSTEM_ACTOR, job)
        assert revoke_share_link(session, SYSTEM_ACTOR, job, links[0].id).revoked_at is not None
        assert share_film(session, SYSTEM_ACTOR, job).expires_at - now(session) > timedelta(days=6)
        with pytest.raises(AppError, match="share link"):
            revoke_share_link(session, SYSTEM_ACTOR, job, "share_nothing")
        session.add(BlockedFile(sha256=job.film["sha256"], film_id=film, report_id="r", blocked_at=now(session)))
        session.flush()
        with pytest.raises(AppError, match="can be shared"):
            share_film(session, SYSTEM_ACTOR, job)
    with transaction() as session:
        erasure = start_erasure(session, SYSTEM_ACTOR, ErasureKind.ACCOUNT, site.accounts["alice"]).id
    list(run_erasure(erasure, SYSTEM_ACTOR))
    with transaction() as session:
        assert session.query(ShareLink).count() == 0
        with pytest.raises(AppError, match="leads to no film"):
            open_share_link(session, token)
