"""Prefetch: fetch the inputs of the segment that probably comes next, and encode its text, during this render."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait

from app.db import transaction
from app.dispatch.choice import peek
from workers.engine import Engine, SegmentRequest
from workers.segment_input import SegmentInput, read_segment_input
from workers.segment_request import build_segment_request

log = logging.getLogger(__name__)


class Prefetcher:
    """Builds the request of the likely next segment on its own thread, and keeps that one request.

    It only reads. No lease is acquired, so fairness, priority, limits and drains are decided when the GPU is free, as
    without it; a wrong guess costs one fetch. The request is the same that the claim would build, because everything
    that decides it is fixed before a unit is ready.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._running: Future[None] | None = None
        self._target: tuple[Engine, str, str] | None = None
        self._unit_id: str | None = None
        self._request: SegmentRequest | None = None

    def follow(self, engine: Engine, pool: str, model: str) -> None:
        """Prepare from now on what would be claimed next from this pool, if it is for this model, for this engine."""
        self._target = (engine, pool, model)

    def look(self) -> None:
        """Start to prepare the next segment unless that is under way; returns at once."""
        if self._target is not None and (self._running is None or self._running.done()):
            self._running = self._thread.submit(self._prepare, *self._target)

    def request_for(self, segment: SegmentInput) -> SegmentRequest:
        """Return the request of a claimed segment: the prepared one where the guess was right."""
        if self._running is not None and self._running.done() and self._unit_id == segment.unit.id:
            request, self._unit_id, self._request = self._request, None, None
            if request is not None:
                return request
        return build_segment_request(segment)

    def wait(self) -> None:
        """Wait for the running prefetch, and forget its engine, which may then be closed."""
        self._target = None
        if self._running is not None:
            wait([self._running])

    def close(self) -> None:
        """Wait for the running prefetch and end the thread."""
        self._thread.shutdown(wait=True)

    def _prepare(self, engine: Engine, pool: str, model: str) -> None:
        try:
            with transaction() as session:
                unit_id = peek(session, pool, model, worker_id=self._worker_id)
                if unit_id is None or unit_id == self._unit_id:
                    return
                segment = read_segment_input(session, unit_id)
            if segment.unit.model != model:
                return
            self._unit_id = self._request = None
            self._request = build_segment_request(segment)
            self._unit_id = unit_id
            engine.prefetch(self._request)
        except Exception as error:  # noqa: BLE001 — whatever it is, the take itself will meet it and report it.
            log.info("The next segment could not be prepared: %s", error)
