"""Present a job: the one representation that the APIs, pages and webhooks share."""

from typing import Any, Protocol

from app.jobs.retention_request import Retention
from app.jobs.schemas import MeterOut, PriceOut, ShotOut, VideoError, VideoOut, decimal_seconds, unix
from app.jobs.spec import Spec
from app.jobs.states import JobState, Stage, is_final
from app.jobs.tables import Job
from app.settings import get_settings
from pricing.money import Money


class Charge(Protocol):
    """What is shown of a receipt: its total, in minor units."""

    @property
    def total(self) -> int: ...


def show_job(
    job: Job,
    *,
    receipt: Charge | None = None,
    queue_position: int | None = None,
    eta: dict[str, int] | None = None,
    meter: MeterOut | None = None,
) -> VideoOut:
    """Return a job as the API shows it, with its charge (`receipt`), resources and `eta`, in seconds from now."""
    spec, state = Spec.model_validate(job.spec), JobState(job.state)
    frames = spec.frames if job.film is None else int(job.film["frames"])
    return VideoOut(
        id=job.id,
        model=job.model,
        model_alias=job.model_alias,
        retention=Retention.model_validate(job.retention) if job.retention else None,
        status=state,
        progress=job.progress,
        created_at=unix(job.created_at) or 0,
        started_at=unix(job.started_at),
        completed_at=unix(job.finished_at),
        expires_at=unix(job.files_expire_at),
        prompt=job.prompt,
        remixed_from_video_id=job.parent_id if job.parent_kind == "remix" else None,
        seconds=decimal_seconds(frames, spec.fps),
        size=f"{spec.width}x{spec.height}",
        error=error_of(job),
        stage=None if is_final(state) else job.stage,
        review_due_at=unix(job.review_due_at) if is_in_review(job) else None,
        queue_position=queue_position,
        eta=eta,
        start_by=unix(job.start_by),
        not_after=unix(job.not_after),
        price=PriceOut.model_validate(job.price),
        charged=_charged(job, receipt),
        test=job.test,
        shots=[ShotOut(prompt=shot.prompt, seconds=shot.seconds, transition=shot.transition) for shot in spec.shots],
        seed=spec.seed,
        service_tier=spec.service_tier,
        project=job.project_id,
        metadata=job.extra,
        resolved=job.resolved,
        parent={"id": job.parent_id, "kind": job.parent_kind or ""} if job.parent_id else None,
        group=job.group_id,
        video_url=_video_url(job),
        num_frames=frames,
        fps=spec.fps,
        duration_s=round(frames / spec.fps, 3),
        **({} if meter is None else _inference_facts(meter)),
        meter=meter,
    )


def is_in_review(job: Job) -> bool:
    """Return whether an unfinished job waits until a moderator has decided."""
    return job.stage == Stage.MODERATING and not is_final(job.state)


# Stages in which the model works; the others load, write and store.
_INFERENCE_STAGES = ("text", "denoise", "decode")


def _inference_facts(meter: MeterOut) -> dict[str, Any]:
    """Return a job's meter in the names of inference servers: seconds, milliseconds by stage, and mebibytes."""
    spent = meter.seconds
    return {
        "inference_time_s": round(sum(spent.get(stage, 0.0) for stage in _INFERENCE_STAGES), 3),
        "stage_durations": {f"{stage}_gen_ms": round(seconds * 1000, 1) for stage, seconds in spent.items()},
        "peak_memory_mb": round(meter.peak_memory_bytes / 2**20, 1),
    }


# Why a job has no film, or a shorter one, though nothing failed. Clients that wait for an end look at `error` only.
_ENDS = {
    JobState.CANCELLED: VideoError(
        code="cancelled", message="The video was cancelled. Only what was rendered before is delivered and charged."
    ),
    JobState.EXPIRED: VideoError(
        code="expired", message="The video was not started before its deadline. Nothing is charged."
    ),
}


def error_of(job: Job) -> VideoError | None:
    """Return why a job ended otherwise than ordered; None for one that is open or completed."""
    if job.error_code:
        return VideoError(code=job.error_code, message=job.error_message or "")
    return _ENDS.get(JobState(job.state))


def _video_url(job: Job) -> str | None:
    """Return the download URL of the film, or None while there is none."""
    if job.film_key is None or job.files_removed_at is not None:
        return None
    return f"{get_settings().base_url()}/v1/videos/{job.id}/content"


def _charged(job: Job, receipt: Charge | None) -> str | None:
    """Return the job's charge as a decimal string; a test job is never charged."""
    if receipt is None:
        return None
    return Money(0 if job.test else receipt.total, job.currency).text
