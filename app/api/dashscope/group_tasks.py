"""Jobs that one call ordered together, as one task."""

from collections.abc import Sequence
from typing import Any

from app.api.dashscope.translate import STATUS, task_time, to_output, to_usage
from app.jobs.groups import state_of
from app.jobs.states import FINAL, JobState
from app.jobs.tables import Job

# Of the usage of a film, what is added up.
_SUMMED = ("video_count", "video_duration", "duration", "input_video_duration", "output_video_duration")


def to_group_output(jobs: Sequence[Job], video_urls: Sequence[str | None]) -> dict[str, Any]:
    """Return jobs that were ordered together as one task's `output`: `results` has an entry for each of them.

    The task has ended once all of them have, and succeeded where one has; `video_url` is the first film's.
    """
    state, outputs = state_of(jobs), [to_output(job, url) for job, url in zip(jobs, video_urls, strict=True)]
    output = {
        **outputs[0],
        "task_id": jobs[0].group_id,
        "task_status": STATUS[state],
        "scheduled_time": task_time(min((job.started_at for job in jobs if job.started_at), default=None)),
        "end_time": task_time(max(job.finished_at or job.created_at for job in jobs)) if state in FINAL else None,
        "video_url": next((url for url in video_urls if url is not None), None) if state in FINAL else None,
        "results": outputs,
        "task_metrics": {
            "TOTAL": len(jobs),
            "SUCCEEDED": sum(job.state == JobState.COMPLETED for job in jobs),
            "FAILED": sum(job.state in (JobState.FAILED, JobState.EXPIRED) for job in jobs),
        },
    }
    if state not in FINAL or state == JobState.COMPLETED:
        output |= {"code": None, "message": None}
    return {key: value for key, value in output.items() if value is not None}


def to_group_usage(jobs: Sequence[Job]) -> dict[str, Any] | None:
    """Return the usage of jobs together: that of one film, with the count and the seconds of all."""
    usages = [usage for usage in map(to_usage, jobs) if usage is not None]
    if not usages:
        return None
    sums = {name: sum(usage[name] for usage in usages) for name in usages[0] if name in _SUMMED}
    return {**usages[0], **sums}
