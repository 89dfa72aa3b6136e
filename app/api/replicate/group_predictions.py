"""Jobs that one call ordered together, as one prediction."""

from collections.abc import Sequence
from typing import Any

from app.api.replicate.translate import PREFIX, STATUS, progress_lines, time_text, to_prediction
from app.jobs.groups import state_of
from app.jobs.states import FINAL, JobState
from app.jobs.tables import Job
from app.settings import get_settings
from pricing.money import Money


def to_group_prediction(
    jobs: Sequence[Job], film_urls: Sequence[str], ignored: list[str] | None = None
) -> dict[str, Any]:
    """Return jobs that were ordered together as one prediction, whose output is the list of their films.

    It has ended once all of them have, and succeeded where one has; `logs` name each film.
    """
    state, first = state_of(jobs), to_prediction(jobs[0], None, ignored)
    address = f"{get_settings().base_url()}{PREFIX}/predictions/{jobs[0].group_id}"
    is_over = state in FINAL
    started = [job.started_at for job in jobs if job.started_at is not None]
    ended = [job.finished_at for job in jobs if job.finished_at is not None] if is_over else []
    metrics = {"predict_time": (max(ended) - min(started)).total_seconds()} if started and ended else {}
    return {
        **first,
        "id": jobs[0].group_id,
        "status": STATUS[state],
        "input": {**first["input"], "num_outputs": len(jobs), "seeds": [int(job.spec["seed"]) for job in jobs]},
        "output": list(film_urls) if is_over and film_urls else None,
        "logs": "\n".join([*(f"{job.id}: {STATUS[JobState(job.state)]}" for job in jobs), _group_logs(jobs)]),
        "error": first["error"] if STATUS[state] == "failed" else None,
        "metrics": metrics,
        "started_at": time_text(min(started, default=None)),
        "completed_at": time_text(max(ended, default=None)),
        "data_removed": all(job.files_removed_at is not None for job in jobs),
        "urls": {"get": address, "cancel": f"{address}/cancel"},
    }


def _group_logs(jobs: Sequence[Job]) -> str:
    """Return the progress of jobs together."""
    total = Money(sum(job.total for job in jobs), jobs[0].currency)
    return progress_lines(total.text, total.currency, sum(job.progress for job in jobs) // len(jobs))
