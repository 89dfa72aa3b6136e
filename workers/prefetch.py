"""A look ahead: the inputs of the segment that probably comes next are fetched, and its words encoded, meanwhile."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait

from app.db import transaction
from app.dispatch.claim import peek
from workers.engine import Engine, SegmentRequest
from workers.inputs import request_of
from workers.segment_input import SegmentInput, read_segment_input

log = logging.getLogger(__name__)


class Prefetcher:
    """Makes the request of the likely next segment on a thread of its own, and holds that one request.

    It only looks. No lease is taken, so fairness, priority, limits and drains are decided when the GPU is free, as
    without it; a guess that was wrong has cost one fetch. The request is the same that the claim would make, because
    everything that decides it is fixed before a unit is ready.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
        self._looking: Future[None] | None = None
        self._unit_id: str | None = None
        self._request: SegmentRequest | None = None

    def look(self, engine: Engine, pool: str, model: str) -> None:
        """Prepare what would be claimed next from this pool if it is for this model; returns at once."""
        if self._looking is None or self._looking.done():
            self._looking = self._thread.submit(self._look, engine, pool, model)

    def request_for(self, work: SegmentInput) -> SegmentRequest:
        """Return the request of a segment that was claimed: the prepared one where the guess was right."""
        if self._looking is not None and self._looking.done() and self._unit_id == work.unit.id:
            made, self._unit_id, self._request = self._request, None, None
            if made is not None:
                return made
        return request_of(work)

    def rest(self) -> None:
        """Wait for the look in progress: before its engine is closed."""
        if self._looking is not None:
            wait([self._looking])

    def close(self) -> None:
        """Wait for the look in progress and end the thread."""
        self._thread.shutdown(wait=True)

    def _look(self, engine: Engine, pool: str, model: str) -> None:
        try:
            with transaction() as session:
                unit_id = peek(session, pool, model)
                if unit_id is None or unit_id == self._unit_id:
                    return
                work = read_segment_input(session, unit_id)
            if work.unit.model != model:
                return
            self._unit_id = self._request = None
            self._request = request_of(work)
            self._unit_id = unit_id
            engine.prefetch(self._request)
        except Exception as error:  # noqa: BLE001 — whatever it is, the take itself will meet it and say so.
            log.info("The next segment could not be prepared: %s", error)
