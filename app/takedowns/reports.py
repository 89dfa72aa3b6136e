"""Take reports of films in, and find and list them."""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.jobs.share_links import shared_film
from app.jobs.showcase_tables import ShowcaseAgreement
from app.jobs.tables import Job
from app.provenance.registry_tables import RegistryFilm
from app.signed_tokens import InvalidToken, TokenPurpose, read_token
from app.takedowns.categories import CATEGORIES
from app.takedowns.tables import ContentReport, ReportSender, ReportState

DETAILS_MAX = 4000
PLACE_MAX = 2048
NAME_MAX = 200
EMAIL_MAX = 320

_FILM_ID = re.compile(r"\bvideo_[0-9a-z]{24}\b")
_LINK = re.compile(r"/files/([A-Za-z0-9_.\-]{20,1000})")
_SHARED = re.compile(r"/shared/([A-Za-z0-9_.\-]{20,1000})")
_SHOWN = re.compile(r"/showcase(?:/|\?film=)([0-9a-z_]{8,64})")
# Without what has a meaning in a mailto: address.
_EMAIL = re.compile(r"[^@\s?&,;%\"<>]{1,64}@[^@\s.?&,;%\"<>]+(?:\.[^@\s.?&,;%\"<>]+)+")


@dataclass(frozen=True)
class ReportForm:
    """A report as its sender typed it. `place` is the address or the id of the film."""

    category: str
    place: str
    details: str
    name: str
    email: str
    is_truthful: bool

    def check(self) -> None:
        """Raise AppError `invalid_request`, which names the field, for a report that cannot be acted upon."""
        if self.category not in CATEGORIES:
            raise AppError("invalid_request", "Choose what the report is about.", field="category")
        if not 0 < len(self.place) <= PLACE_MAX:
            message = f"Say where the film is, by its URL or its ID, in at most {PLACE_MAX} characters."
            raise AppError("invalid_request", message, field="place")
        if not 0 < len(self.details) <= DETAILS_MAX:
            message = f"Say what is wrong with the film, in at most {DETAILS_MAX} characters."
            raise AppError("invalid_request", message, field="details")
        if not 0 < len(self.name) <= NAME_MAX:
            message = f"Sign the report with your name, in at most {NAME_MAX} characters."
            raise AppError("invalid_request", message, field="name")
        if len(self.email) > EMAIL_MAX or not _EMAIL.fullmatch(self.email):
            raise AppError("invalid_request", "Give an e-mail address for the answer.", field="email")
        if not self.is_truthful:
            message = "Confirm that the report is true and made in good faith."
            raise AppError("invalid_request", message, field="truthful")


def submit_report(session: Session, form: ReportForm) -> ContentReport:
    """Write a report. Whether it leads to a film is never told to its sender. Raises AppError `invalid_request`."""
    form.check()
    moment = now(session)
    report = ContentReport(
        id=new_id("report"),
        category=form.category,
        film_id=_film_at(session, form.place),
        created_at=moment,
        due_at=moment + CATEGORIES[form.category].limit,
    )
    session.add(report)
    session.flush()
    session.add(
        ReportSender(report_id=report.id, name=form.name, email=form.email, place=form.place, details=form.details)
    )
    session.flush()
    return report


def _film_at(session: Session, place: str) -> str | None:
    """Return the id of the film of this service that an address or an id leads to, or None."""
    named = _FILM_ID.search(place)
    if named is not None:
        return _known(session, named[0])
    link = _LINK.search(place)
    if link is not None:
        try:
            # A link that has expired or was revoked still says which film was seen.
            return _known(session, read_token(TokenPurpose.FILM, link[1]).values[0])
        except (InvalidToken, IndexError):
            return None
    shared = _SHARED.search(place)
    if shared is not None:
        return shared_film(session, shared[1])
    shown = _SHOWN.search(place)
    return session.scalar(select(ShowcaseAgreement.job_id).where(ShowcaseAgreement.id == shown[1])) if shown else None


def _known(session: Session, film_id: str) -> str | None:
    """Return the id if there is such a job, or was such a film."""
    found = session.scalar(select(Job.id).where(Job.id == film_id))
    return found or session.scalar(select(RegistryFilm.film_id).where(RegistryFilm.film_id == film_id))


def find_report(session: Session, report_id: str, *, lock: bool = False) -> ContentReport:
    """Return a report. Raises AppError `not_found`."""
    query = select(ContentReport).where(ContentReport.id == report_id)
    report = session.scalar(query.with_for_update() if lock else query)
    if report is None:
        raise not_found("report", report_id)
    return report


def open_reports(session: Session, *, limit: int) -> list[ContentReport]:
    """Return the reports that wait for a decision: those that lead to a film first, the most urgent first."""
    order = (ContentReport.film_id.is_(None), ContentReport.due_at, ContentReport.id)
    query = select(ContentReport).where(ContentReport.state == ReportState.OPEN).order_by(*order)
    return list(session.scalars(query.limit(limit)))


def decided_reports(session: Session, *, limit: int, before: tuple[datetime, str] | None = None) -> list[ContentReport]:
    """Return decided reports, the newest first; `before` is (created_at, id) of the last one of the page before."""
    query = select(ContentReport).where(ContentReport.state != ReportState.OPEN)
    if before is not None:
        query = query.where(tuple_(ContentReport.created_at, ContentReport.id) < before)
    return list(session.scalars(query.order_by(ContentReport.created_at.desc(), ContentReport.id.desc()).limit(limit)))
