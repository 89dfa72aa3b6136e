"""Film cards: a job's public fields with the texts and flags that pages show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.dispatch.eta import Outlook, forecast, forecasts
from app.jobs.film_labels import labels_of
from app.jobs.find import receipt_of, receipts_of
from app.jobs.label_tables import FilmLabel
from app.jobs.present import show_job
from app.jobs.schemas import VideoOut
from app.jobs.states import JobState, Stage, is_final
from app.jobs.tables import Job, ReceiptRow
from app.web.formats import words
from app.web.language import gettext, ngettext
from app.web.studio.queue_notice import no_worker

TONES = {
    JobState.QUEUED: "info",
    JobState.IN_PROGRESS: "busy",
    JobState.COMPLETED: "good",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "",
    JobState.EXPIRED: "",
}
STAGES = ("moderating", "waiting", "rendering", "finishing")


@dataclass(frozen=True)
class Card:
    """One film, in a list or on its own page."""

    video: VideoOut
    has_film: bool
    has_poster: bool
    may_cancel: bool
    is_ended: bool
    sprites: dict[str, Any] | None
    has_wave: bool
    name: str
    is_favourite: bool

    @property
    def id(self) -> str:
        """The job's id."""
        return self.video.id

    @property
    def tone(self) -> str:
        """The CSS class of its state's tag."""
        return TONES[self.video.status]

    @property
    def title(self) -> str:
        """Its name, or else the first line of its prompt."""
        return self.name or self.video.prompt.partition("\n")[0]

    @property
    def state_text(self) -> str:
        """Its state as text; while it is in progress or in review, its stage."""
        if self.is_in_review:
            return words(Stage.MODERATING)
        if self.is_ended or self.video.status == JobState.QUEUED:
            return words(self.video.status)
        return words(self.video.stage if self.video.stage in STAGES else "in_progress")

    @property
    def is_in_review(self) -> bool:
        """Whether it waits until a moderator has decided."""
        return not self.is_ended and self.video.stage == Stage.MODERATING

    @property
    def eta_range(self) -> tuple[int, int] | None:
        """Its estimated seconds, p50 and p90, from which the page counts down; None when unknown or ended."""
        eta = self.video.eta
        return None if self.is_ended or eta is None else (eta["seconds_p50"], eta["seconds_p90"])

    @property
    def outlook(self) -> str:
        """Its queue position and estimated time as text; empty when unknown or ended."""
        if self.is_ended:
            return ""
        if self.is_in_review:
            return gettext("waits until a moderator has decided")
        if self.video.eta is None:
            return no_worker()
        parts: list[str] = []
        if self.video.queue_position:
            parts.append(ngettext("%(number)s film ahead", "%(number)s films ahead", self.video.queue_position))
        elif self.video.queue_position == 0 and self.video.status == JobState.QUEUED:
            parts.append(gettext("next in line"))
        low, high = self.video.eta["seconds_p50"], self.video.eta["seconds_p90"]
        return gettext(", ").join((*parts, gettext("about %(span)s", span=span(low, high))))


def cards_of(session: Session, jobs: Sequence[Job]) -> list[Card]:
    """Return the cards of some jobs, whose forecasts, receipts and labels are read at once."""
    outlooks, receipts = forecasts(session, jobs), receipts_of(session, jobs)
    labels = labels_of(session, [job.id for job in jobs])
    return [_card(job, outlooks[job.id], receipts.get(job.id), labels.get(job.id)) for job in jobs]


def card_of(session: Session, job: Job) -> Card:
    """Return the card of a job in its current state."""
    ended = is_final(job.state)
    receipt, outlook = (receipt_of(session, job), None) if ended else (None, forecast(session, job))
    return _card(job, outlook, receipt, session.get(FilmLabel, job.id))


def _card(job: Job, outlook: Outlook | None, receipt: ReceiptRow | None, label: FilmLabel | None) -> Card:
    ended = is_final(job.state)
    if outlook is None or ended:
        video = show_job(job, receipt=receipt)
    else:
        video = show_job(job, queue_position=outlook.position, eta=outlook.eta())
    gone = job.files_removed_at is not None
    return Card(
        video=video,
        has_film=job.film_key is not None and not gone,
        has_poster=job.poster_key is not None and not gone,
        may_cancel=not ended and job.cancel_requested_at is None and job.stage != "finishing",
        is_ended=ended,
        sprites=dict(job.film["sprites"]) if job.film and "sprites" in job.film and not gone else None,
        has_wave=bool(job.film and job.film.get("wave") and not gone),
        name="" if label is None else label.name,
        is_favourite=label is not None and label.is_favourite,
    )


def span(low: int, high: int) -> str:
    """Return a range of seconds as text: `20–40 s`, `3–5 min`."""
    if high < 90:
        return f"{low} {gettext('s')}" if low == high else f"{low}–{high} {gettext('s')}"
    least, most = max(1, round(low / 60)), max(1, round(high / 60))
    return f"{least} {gettext('min')}" if least == most else f"{least}–{most} {gettext('min')}"
