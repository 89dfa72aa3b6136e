"""What waits in a pool, as the scheduler's snapshot says it, kept by each process until the snapshot changes.

A forecast compares a job with every account that waits beside it. Read once a second and compared in arrays, a thousand
accounts cost a poll some hundredths of a millisecond; compared by the database, they cost it several milliseconds.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from app.sql_statements import SqlStatement

# Below what a snapshot resolves: durations are rounded to milliseconds.
EPSILON = 1e-6
# Virtual times move without a change of the snapshot, and a scheduler of the release before writes no versions.
KEPT_SECONDS = 5.0

_READ = SqlStatement("""
    SELECT q.class AS priority, q.account_id, q.units, q.jobs,
           CAST(q.p50 AS float8) AS p50, CAST(q.p90 AS float8) AS p90,
           CAST(extract(epoch FROM q.oldest) * 1000000 AS bigint) AS oldest_us,
           CAST(coalesce(s.vtime, 0) AS float8) AS vtime,
           CAST(q.p50 / q.units / coalesce(s.weight, 1) AS float8) AS unit_length
    FROM queue_snapshots AS q
    LEFT JOIN shares AS s ON s.pool = q.pool AND s.account_id = q.account_id
    WHERE q.pool = :pool
""")


@dataclass(frozen=True)
class Turn:
    """When a waiting job's turn comes in its pool: its class, its virtual time, and since when it is ready."""

    account_id: str
    priority: int
    at: float  # virtual time at which it is next in its account
    queued_us: int  # microseconds since 1970


@dataclass(frozen=True)
class Ahead:
    """The work of other accounts that goes before a job; the seconds are those of one worker."""

    jobs: int = 0
    p50: float = 0.0
    p90: float = 0.0


class WaitingWork:
    """The queues of a pool: one entry for each class and account, in arrays of N entries."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = list(zip(*rows, strict=True)) or [()] * 9
        self._accounts = np.array(columns[1], dtype=object)  # [N], as are the others
        self._classes: NDArray[np.int64] = np.array(columns[0], dtype=np.int64)
        self._units, self._jobs, self._p50, self._p90 = (np.array(each, dtype=np.float64) for each in columns[2:6])
        self._oldest: NDArray[np.int64] = np.array(columns[6], dtype=np.int64)
        self._vtimes, self._lengths = (np.array(each, dtype=np.float64) for each in columns[7:9])

    def ahead_of(self, turn: Turn) -> Ahead:
        """Return what goes before a job: all of a higher priority, and of the same priority as many units of each other
        account as begin at a virtual time before the job's turn.
        """
        if not len(self._units):
            return Ahead()
        # A unit takes no virtual time where its duration is unknown: then all of its account begin at once.
        lengths = np.where(self._lengths > 0, self._lengths, 1)
        before = (turn.at - self._vtimes) / lengths
        # At the same virtual time the older one goes first.
        is_older = self._oldest < turn.queued_us
        begun = np.where(is_older, np.floor(before + EPSILON) + 1, np.ceil(before - EPSILON))
        units = np.where(self._lengths > 0, np.minimum(self._units, begun), self._units)
        units = np.where(self._vtimes <= turn.at + EPSILON, units, 0)
        units = np.where(self._classes < turn.priority, self._units, units)
        units = np.where((self._classes > turn.priority) | (self._accounts == turn.account_id), 0, units)
        parts = units / self._units
        jobs = np.ceil(self._jobs * parts - EPSILON)
        return Ahead(round(float(jobs.sum())), float(self._p50 @ parts), float(self._p90 @ parts))


# By pool: the version of the snapshot, when it was read, and the work. Threads may write at once, each a whole entry.
_kept: dict[str, tuple[UUID | None, float, WaitingWork]] = {}


def waiting_work(connection: Connection, pool: str, version: UUID | None) -> WaitingWork:
    """Return what waits in a pool: as this process has read it for this version of its snapshot, else read now."""
    now = time.monotonic()
    kept = _kept.get(pool)
    if kept is not None and kept[0] == version and now - kept[1] < KEPT_SECONDS:
        return kept[2]
    work = WaitingWork(_READ.run_on(connection, {"pool": pool}))
    _kept[pool] = (version, now, work)
    return work
