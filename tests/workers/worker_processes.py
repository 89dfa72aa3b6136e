"""A real worker loop whose engine and store report what they do and wait where a test wants them to."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select, text

from app.db import transaction
from app.dispatch.claim import Claim
from app.jobs.queue_tables import Take, Unit
from app.storage import Stored
from app.storage.files import FileStorage
from workers.engine import Engine, EngineControl, SegmentRequest
from workers.engine.request import Frames
from workers.engine_cache import EngineCache
from workers.worker_loop import WorkerLoop

# No test is slow because it waits: these bound what would otherwise hang for ever.
PATIENCE_SECONDS = 60.0


def wait_until(fact: Callable[[], object], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds, and fail where it never does, after `patience` seconds."""
    until = time.monotonic() + patience
    while not fact():
        assert time.monotonic() < until, f"it never came to this: {what}"
        time.sleep(0.02)


class GatedStorage(FileStorage):
    """A folder whose uploads can be met: `at_upload` is called with each key before anything is stored."""

    def __init__(self, root: Path, at_upload: Callable[[str], None]) -> None:
        super().__init__(root)
        self.at_upload = at_upload
        self.uploads: list[str] = []

    def put_file(self, key: str, path: Path, content_type: str) -> Stored:
        self.at_upload(key)
        stored = super().put_file(key, path, content_type)
        self.uploads.append(key)
        return stored


class ObservedWorker(WorkerLoop):
    """A worker loop that records which units its engine began to denoise, and calls a test's `at_step` at each step."""

    def __init__(self, pools: list[str], at_step: Callable[[str, int], None] = lambda unit_id, step: None) -> None:
        super().__init__(f"worker-{threading.get_native_id()}-{time.monotonic_ns()}", pools)
        self.begun: list[str] = []
        self.at_step = at_step
        self.engines = _ObservedEngines(self)

    @contextmanager
    def opened(self) -> Iterator["ObservedWorker"]:
        self.open()
        try:
            yield self
        finally:
            self.close()


class _ObservedEngines(EngineCache):
    """An engine cache whose engines report each step to the worker."""

    def __init__(self, worker: ObservedWorker) -> None:
        super().__init__(worker.prefetcher)
        self._worker = worker

    def engine_for(self, claim: Claim) -> Engine:
        return _ObservedEngine(super().engine_for(claim), self._worker)  # type: ignore[return-value]


class _ObservedEngine:
    """The worker's engine, with a call to the worker after each step."""

    def __init__(self, engine: Engine, worker: ObservedWorker) -> None:
        self._engine = engine
        self._worker = worker

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def render(self, request: SegmentRequest, control: EngineControl) -> Iterator[Frames]:
        record = control.on_step

        def on_step(step: int, steps: int, preview: Frames | None = None) -> None:
            record(step, steps, preview)
            if step == 1:
                self._worker.begun.append(request.key)
            self._worker.at_step(request.key, step)

        control.on_step = on_step  # type: ignore[method-assign]
        return self._engine.render(request, control)


def takes(unit_id: str | None = None) -> list[Take]:
    """All takes, or those of a unit, in the order of their claims."""
    with transaction() as session:
        wanted = select(Take).order_by(Take.fence)
        return list(session.scalars(wanted if unit_id is None else wanted.where(Take.unit_id == unit_id)))


def unit(unit_id: str) -> Unit:
    with transaction() as session:
        return session.get_one(Unit, unit_id)


def take_of(key: str) -> str:
    """The take that a stored file belongs to."""
    return key.split("/")[2]


def leave_films_unmarked() -> None:
    """Let jobs that are ordered from now on have no watermark, so that films of one seed have equal pictures."""
    with transaction() as session:
        session.execute(text("ALTER TABLE jobs ALTER COLUMN mark_id DROP DEFAULT"))
