"""Wait for the end of a job without a thread and without a database session, for calls that answer with the film."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import select

from app.db import autocommit
from app.jobs.live_feed import LiveFeed
from app.jobs.tables import Job
from app.request_session import read_in_turn


async def wait_for_end(feed: LiveFeed, job_id: str, *, account_id: str, seconds: float) -> bool:
    """Return whether a job has ended, at its end or after `seconds`; earlier where this process is about to end."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    # Subscribe before reading the row, so that the end is not missed in between.
    async with feed.job(job_id) as viewer:
        while not feed.is_closing:
            if await read_in_turn(account_id, has_ended, job_id):
                return True
            update = await viewer.next(max(0.0, deadline - clock()))
            # Between two events come many messages about progress; they are no reason to read the row.
            while update is not None and not update.news and update.sequence is None and not feed.is_closing:
                update = await viewer.next(max(0.0, deadline - clock()))
            if update is None:
                return await read_in_turn(account_id, has_ended, job_id)
    return False


async def wait_for_ends(feed: LiveFeed, job_ids: Sequence[str], *, account_id: str, seconds: float) -> bool:
    """Return whether all these jobs have ended, as `wait_for_end` does for one."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    for job_id in job_ids:
        if not await wait_for_end(feed, job_id, account_id=account_id, seconds=max(0.0, deadline - clock())):
            return False
    return True


def has_ended(job_id: str) -> bool:
    """Return whether a job has ended; a job that does not exist has."""
    with autocommit() as connection:
        rows = connection.execute(select(Job.finished_at).where(Job.id == job_id)).all()
    return not rows or rows[0][0] is not None
