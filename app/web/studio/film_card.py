"""Films as the pages show them: the one shape of a video, in the words of a card."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.dispatch.eta import Outlook, forecasts
from app.jobs.find import receipts_of
from app.jobs.present import show_job
from app.jobs.schemas import VideoOut
from app.jobs.states import JobState, is_final
from app.jobs.tables import Job, ReceiptRow

TONES = {
    JobState.QUEUED: "info",
    JobState.IN_PROGRESS: "busy",
    JobState.COMPLETED: "good",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "",
    JobState.EXPIRED: "",
}
STAGE_WORDS = {"waiting": "waiting", "rendering": "rendering", "finishing": "joining the film"}


@dataclass(frozen=True)
class Card:
    """One film of the reel or of its own page."""

    video: VideoOut
    has_film: bool
    has_poster: bool
    may_cancel: bool
    is_ended: bool
    sprites: dict[str, Any] | None

    @property
    def id(self) -> str:
        """The video's id."""
        return self.video.id

    @property
    def tone(self) -> str:
        """The colour of its state."""
        return TONES[self.video.status]

    @property
    def title(self) -> str:
        """The first line of its prompt."""
        return self.video.prompt.partition("\n")[0]

    @property
    def state_words(self) -> str:
        """Its state, and while it moves what is happening."""
        if self.is_ended or self.video.status == JobState.QUEUED:
            return str(self.video.status).replace("_", " ")
        return STAGE_WORDS.get(self.video.stage or "", "in progress")

    @property
    def outlook(self) -> str:
        """Where it stands in the queue and how long it will probably take, in words; empty when nothing is known."""
        if self.is_ended:
            return ""
        parts = []
        if self.video.queue_position:
            ahead = self.video.queue_position
            parts.append(f"{ahead} {'film' if ahead == 1 else 'films'} ahead")
        elif self.video.queue_position == 0 and self.video.status == JobState.QUEUED:
            parts.append("next in line")
        eta = self.video.eta
        if eta is not None:
            low, high = eta["seconds_p50"], eta["seconds_p90"]
            parts.append(f"about {span(low, high)}")
        return ", ".join(parts)


def cards_of(session: Session, jobs: Sequence[Job]) -> list[Card]:
    """Return the cards of some jobs, whose ends are foretold together."""
    outlooks, receipts = forecasts(session, jobs), receipts_of(session, jobs)
    return [_card(job, outlooks[job.id], receipts.get(job.id)) for job in jobs]


def card_of(session: Session, job: Job) -> Card:
    """Return the card of a job as it stands now."""
    return cards_of(session, [job])[0]


def _card(job: Job, outlook: Outlook, receipt: ReceiptRow | None) -> Card:
    ended = is_final(job.state)
    video = show_job(job, receipt=receipt, queue_position=outlook.position, eta=outlook.eta())
    gone = job.files_removed_at is not None
    return Card(
        video=video,
        has_film=job.film_key is not None and not gone,
        has_poster=job.poster_key is not None and not gone,
        may_cancel=not ended and job.cancel_requested_at is None and job.stage != "finishing",
        is_ended=ended,
        sprites=dict(job.film["sprites"]) if job.film and "sprites" in job.film and not gone else None,
    )


def of_caller(caller: Caller) -> str:
    """Return which of the account's films the caller sees, in words for an empty reel."""
    return "test films" if caller.test else "films"


def span(low: int, high: int) -> str:
    """Return a range of seconds in words: `20–40 s`, `3–5 min`."""
    if high < 90:
        return f"{low} s" if low == high else f"{low}–{high} s"
    least, most = max(1, round(low / 60)), max(1, round(high / 60))
    return f"{least} min" if least == most else f"{least}–{most} min"
