"""Show a job as a prediction, as Replicate's clients read it and as the webhooks of predictions send it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from app.clock import now
from app.jobs.links import film_link_at
from app.jobs.present import show_job
from app.jobs.spec import Spec
from app.jobs.states import JobState, is_final
from app.jobs.tables import Job
from app.settings import get_settings
from pricing.money import Money

OWNER = "cinemeter"
PREFIX = "/replicate/v1"
STATUS = {
    JobState.QUEUED: "starting",
    JobState.IN_PROGRESS: "processing",
    JobState.COMPLETED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "canceled",
    # Its clients know five words only, and end at any other.
    JobState.EXPIRED: "failed",
}
_BAR = 20


def prediction_text(session: Session, job: Job) -> str:
    """Return a job as the body of a webhook. The URL of its film works for a day without a key."""
    # ASCII only, as the bodies of events.
    prediction = to_prediction(job, film_link_at(now(session), job))
    return json.dumps(prediction, separators=(",", ":"), allow_nan=False)


def to_prediction(job: Any, film_url: str | None, ignored: list[str] | None = None) -> dict[str, Any]:
    """Return a job as a prediction, with all keys that Replicate's clients read."""
    state = JobState(job.state)
    spec = Spec.model_validate(job.spec)
    error = show_job(job).error
    message = None if error is None else error.message
    if message is None and STATUS[state] == "failed":
        message = "The video was not started in time. Nothing was charged."
    address = f"{get_settings().base_url()}{PREFIX}/predictions/{job.id}"
    metrics: dict[str, Any] = {}
    if job.finished_at is not None and job.started_at is not None:
        metrics["predict_time"] = (job.finished_at - job.started_at).total_seconds()
    return {
        "id": job.id,
        "model": f"{OWNER}/{job.model}",
        "version": job.model,
        "status": STATUS[state],
        "input": {
            "prompt": job.prompt,
            "duration": sum(shot.seconds for shot in spec.shots),
            "size": f"{spec.width}x{spec.height}",
            "seed": spec.seed,
        },
        "output": film_url,
        "logs": _logs(job, ignored or []),
        "error": message if STATUS[state] == "failed" else None,
        "metrics": metrics,
        "created_at": time_text(job.created_at),
        "started_at": time_text(job.started_at),
        "completed_at": time_text(job.finished_at),
        "source": "api",
        "data_removed": job.files_removed_at is not None,
        "urls": {"get": address, "cancel": f"{address}/cancel"},
    }


def group_prediction_text(session: Session, jobs: Sequence[Job], state: JobState) -> str:
    """Return jobs that were ordered together as the body of a webhook, as `prediction_text` does for one."""
    moment = now(session)
    urls = [url for job in jobs if (url := film_link_at(moment, job)) is not None]
    return json.dumps(to_group_prediction(jobs, state, urls), separators=(",", ":"), allow_nan=False)


def to_group_prediction(
    jobs: Sequence[Job], state: JobState, film_urls: Sequence[str], ignored: list[str] | None = None
) -> dict[str, Any]:
    """Return jobs that were ordered together as one prediction, whose output is the list of their films.

    `state` is that of the jobs together: ended once all of them have, and succeeded where one has. `logs` name each.
    The error of a failed one is that of its first job in this state.
    """
    in_state = next((job for job in jobs if job.state == state), jobs[0])
    first = to_prediction(jobs[0], None, ignored)
    address = f"{get_settings().base_url()}{PREFIX}/predictions/{jobs[0].group_id}"
    is_over = is_final(state)
    started = [job.started_at for job in jobs if job.started_at is not None]
    ended = [job.finished_at for job in jobs if job.finished_at is not None] if is_over else []
    metrics = {"predict_time": (max(ended) - min(started)).total_seconds()} if started and ended else {}
    total = Money(sum(job.total for job in jobs), jobs[0].currency)
    progress = progress_lines(total.text, total.currency, sum(job.progress for job in jobs) // len(jobs))
    return {
        **first,
        "id": jobs[0].group_id,
        "status": STATUS[state],
        "input": {**first["input"], "num_outputs": len(jobs), "seeds": [int(job.spec["seed"]) for job in jobs]},
        "output": list(film_urls) if is_over and film_urls else None,
        "logs": "\n".join([*(f"{job.id}: {STATUS[JobState(job.state)]}" for job in jobs), progress]),
        "error": to_prediction(in_state, None)["error"] if STATUS[state] == "failed" else None,
        "metrics": metrics,
        "started_at": time_text(min(started, default=None)),
        "completed_at": time_text(max(ended, default=None)),
        "data_removed": all(job.files_removed_at is not None for job in jobs),
        "urls": {"get": address, "cancel": f"{address}/cancel"},
    }


def _logs(job: Job, ignored: list[str]) -> str:
    """Return the lines of a log: what was ignored, the price, and the progress as its clients parse it."""
    lines = [f"input.{name} was ignored: the model decides it." for name in ignored]
    lines.append(progress_lines(job.price["total"], job.currency, job.progress))
    return "\n".join(lines)


def progress_lines(total: str, currency: str, percent: int) -> str:
    """Return the lines of a log that name a price and a progress, as its clients parse it."""
    full = percent * _BAR // 100
    return f"Price: {total} {currency}\n{percent}%|{'█' * full}{' ' * (_BAR - full)}| {percent}/100"


def time_text(at: datetime | None) -> str | None:
    """Return a time as Replicate writes it: UTC, to the millisecond."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
