"""Show a job as a prediction, as Replicate's clients read it and as the webhooks of predictions send it."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from app.clock import now
from app.jobs.links import make_link_at
from app.jobs.present import show_job
from app.jobs.spec import Spec
from app.jobs.states import JobState
from app.jobs.tables import Job
from app.settings import get_settings

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
    has_film = job.film_key is not None and job.files_removed_at is None
    film_url = make_link_at(now(session), job) if has_film else None
    # ASCII only, as the bodies of events.
    return json.dumps(to_prediction(job, film_url), separators=(",", ":"), allow_nan=False)


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


def _logs(job: Job, ignored: list[str]) -> str:
    """Return the lines of a log: what was ignored, the price, and the progress as its clients parse it."""
    lines = [f"input.{name} was ignored: the model decides it." for name in ignored]
    lines.append(f"Price: {job.price['total']} {job.currency}")
    full = job.progress * _BAR // 100
    lines.append(f"{job.progress}%|{'█' * full}{' ' * (_BAR - full)}| {job.progress}/100")
    return "\n".join(lines)


def time_text(at: datetime | None) -> str | None:
    """Return a time as Replicate writes it: UTC, to the millisecond."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
