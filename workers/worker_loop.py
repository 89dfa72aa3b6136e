"""The loop of a worker process: register, load the model, claim and run takes, and report that it is alive."""

import contextvars
import logging
import os
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NoReturn

from app.catalog.models import VideoModel, load_catalog
from app.db import transaction
from app.dispatch.claim import Claim, claim, has_ready
from app.dispatch.worker_registry import deregister_worker, heartbeat, register_worker
from app.liveness import LIVENESS
from app.logs import bind_log_ids
from app.provenance.mark_state import MarkError
from app.settings import get_settings
from app.trace import span
from workers.checkpoints import remove_stale_checkpoints
from workers.engine import EnginePoisoned
from workers.engine.host_info import machine_facts
from workers.engine_cache import EngineCache
from workers.film_marks import usable_identity
from workers.finish_take import FinishTake
from workers.output_check import require_policy
from workers.prefetch import Prefetcher
from workers.running_take import RunningTake
from workers.segment_take import SegmentTake
from workers.temp_dirs import remove_stale_temp_dirs
from workers.upload_stage import UploadStage

log = logging.getLogger(__name__)

REGISTRY_SECONDS = 1.0
# How often the render thread looks for new work while the last take is still being uploaded.
POLL_SECONDS = 0.5
# How often an idle worker looks for work by itself: a wake-up may be lost, or Redis away for hours.
IDLE_POLL_SECONDS = 5.0


class WorkerLoop:
    """One worker process, and its threads.

    The render thread loads models, claims and renders, one take at a time, whoever asks for it: a wake-up, or the idle
    thread, which looks for work by itself. The upload stage uploads and commits what was rendered; the prefetcher
    prepares what probably comes next; and a background thread reports to the worker registry that the process is alive.
    """

    def __init__(self, worker_id: str, pools: list[str]) -> None:
        self.worker_id = worker_id
        self.pools = pools
        self.prefetcher = Prefetcher()
        self.engines = EngineCache(self.prefetcher)
        self.uploads = UploadStage()
        # The take that the render thread works on; one that is being uploaded is not counted.
        self.take: RunningTake | None = None
        # Set once it can answer a wake-up; until then it may still be loading its model.
        self._ready = threading.Event()
        self._draining = threading.Event()
        # Set once nothing more may begin; `_closed` once everything has ended.
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._render_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")
        self._work: Future[None] | None = None
        self._registry_thread = threading.Thread(target=self._report, name="registry", daemon=True)
        self._idle_thread = threading.Thread(target=self._look_for_work, name="idle", daemon=True)

    def open(self) -> None:
        """Register the worker, start to report, and remove files of processes and units that are gone."""
        remove_stale_checkpoints()
        remove_stale_temp_dirs()
        with transaction() as session:
            register_worker(
                session,
                self.worker_id,
                pools=self.pools,
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self.engines.device,
                facts=machine_facts(self.engines.device),
                state="starting",
            )
        self._registry_thread.start()
        self._idle_thread.start()

    def warm_up(self) -> None:
        """Load the model of this worker's pools before its first take, where they have exactly one.

        Whatever keeps it from loading is met again and reported by the first take.
        """
        self._render_thread.submit(self._warm_up).result()

    def _warm_up(self) -> None:
        models = [each for each in load_catalog(get_settings().catalog_dir).values() if self._serves(each)]
        try:
            if len(models) == 1:
                self.engines.load(models[0])
        except Exception:
            log.exception("The model %s could not be loaded before its first take", models[0].id)
        finally:
            self._ready.set()

    def _serves(self, model: VideoModel) -> bool:
        return model.enabled and model.pool in self.pools and model.family != "synthetic"

    def close(self) -> None:
        """Wait for the running take and upload, and deregister; the registry drops a worker that cannot after a minute.

        A take that lasts is ended or released by the registry's orders, as everywhere.
        """
        self._closing.set()
        self._render_thread.shutdown(wait=True)
        self._close_rest()

    def _close_rest(self) -> None:
        self.uploads.close()
        self.prefetcher.close()
        self._closed.set()
        # A report under way would come after the deregistration, over a connection that nobody closes any more.
        if self._registry_thread.is_alive():
            self._registry_thread.join(timeout=10)
        self.engines.close()
        with suppress(Exception), transaction() as session:
            deregister_worker(session, self.worker_id)

    def work(self) -> None:
        """Claim and run takes until nothing is left or the worker drains, and until every started take has ended.

        Where the render thread works already, this waits for it and then looks once more.
        """
        context = contextvars.copy_context()
        self._work = self._render_thread.submit(context.run, self._work_until_empty)
        self._work.result()

    def _look_for_work(self) -> None:
        """Look for work every few seconds while nothing else makes this worker work."""
        while not self._closed.wait(IDLE_POLL_SECONDS):
            if not self._ready.is_set() or self._draining.is_set() or self._closing.is_set():
                continue
            if self._work is not None and not self._work.done():
                continue
            try:
                with transaction() as session:
                    is_due = has_ready(session, self.pools)
                if is_due:
                    self.work()
            except Exception as error:  # noqa: BLE001 — the database may be away; the next look tries again.
                log.warning("This worker could not look for work: %s", error)

    def _work_until_empty(self) -> None:
        """Claim and run takes, on the render thread.

        While the last take is uploaded, the next one is claimed and rendered. Where there is none, the end of the
        upload may make one ready, and others may come meanwhile, so the queue is polled until the upload has ended.
        """
        self._ready.set()
        try:
            while not self._draining.is_set() and not self._closing.is_set():
                is_uploading = self.uploads.is_busy()
                next_claim = self._claim()
                if next_claim is not None:
                    self._run(next_claim)
                elif is_uploading:
                    self.uploads.wait(POLL_SECONDS)
                else:
                    return
        finally:
            self.uploads.wait()

    def _claim(self) -> Claim | None:
        try:
            # A certificate may expire, or be replaced by one that cannot sign, while the worker runs.
            usable_identity()
        except MarkError as error:
            log.error("This worker claims nothing, as it cannot sign films: %s", error)
            return None
        with transaction() as session:
            return claim(session, self.worker_id, self.pools, self.engines.model_id)

    def _run(self, current: Claim) -> None:
        """Run a claimed take under its log ids and its trace span."""
        ids = current.ids()
        with bind_log_ids(**ids), span(current.kind, parent=current.traceparent, pool=current.pool, **ids):
            log.info("A take of a %s begins", current.kind)
            try:
                if current.kind == "finish":
                    self.take = FinishTake(current)
                    self.take.run()
                else:
                    self.take = SegmentTake(current, self.engines, self.prefetcher)
                    self._render(self.take)
            finally:
                self.take = None

    def _render(self, take: SegmentTake) -> None:
        """Run a segment's take, and end the process where it is unfit for the next one."""
        try:
            take.run(self.uploads)
        except EnginePoisoned:
            # The supervisor starts a fresh process. The running upload was rendered before, and closing waits for it.
            log.critical("The engine failed its self-test; this process ends.")
            self._exit()
        if self.engines.has_outgrown_memory(take.claim):
            # Closing waits for the upload, so nothing is lost: the scheduler sends wake-ups for what is ready.
            log.warning("This process has grown too large and ends; a fresh one takes its place.")
            self._exit()

    def _exit(self) -> NoReturn:
        """Close and end this process, so that the supervisor starts a fresh one."""
        try:
            # On the render thread itself, which `close` would wait for.
            self._close_rest()
        except Exception:
            # The weights of a broken device cannot be released either; they go with the process.
            log.exception("This process could not be closed in order")
        finally:
            os._exit(70)

    def _report(self) -> None:
        """Report to the registry each second, and follow its orders to drain or to leave."""
        while not self._closed.wait(REGISTRY_SECONDS):
            take = self.take
            LIVENESS.record_step()
            try:
                with transaction() as session:
                    orders = heartbeat(
                        session,
                        self.worker_id,
                        state=self._state(),
                        take_id=take.claim.take_id if take is not None else None,
                        resident_model=self.engines.model_id,
                    )
            except Exception as error:  # noqa: BLE001 — the database may be away; the next second tries again.
                log.warning("The worker registry could not be updated: %s", error)
                continue
            if orders.drain:
                self._draining.set()
            else:
                self._draining.clear()
            if orders.leave_in is not None:
                self._leave(orders.leave_in, take)

    def _leave(self, seconds: float, take: RunningTake | None) -> None:
        """Have the running take stop within some seconds. It need not wait for the take's own beat, which is slower."""
        if take is not None:
            take.control.stop_at(time.monotonic() + seconds)
        elif not self._ready.is_set():
            self._exit_while_loading()

    def _state(self) -> str:
        """Return the worker's state as the registry names it."""
        if self._draining.is_set():
            return "draining"
        if not self._ready.is_set():
            return "starting"
        return "busy" if self.take is not None or self.uploads.is_busy() else "idle"

    def _exit_while_loading(self) -> None:
        """End the process while its render thread loads, which cannot be interrupted; there is nothing to hand back."""
        log.info("This worker leaves before it has loaded its model.")
        with suppress(Exception), transaction() as session:
            deregister_worker(session, self.worker_id)
        os._exit(0)


# One loop per process; a list, because a worker process starts it at its start and closes it at its end.
_workers: list[WorkerLoop] = []


def start_worker(worker_id: str, pools: list[str]) -> WorkerLoop:
    """Open the worker loop of this process. Raises MarkError when no film could be signed, and as `require_policy`."""
    require_policy(pools)
    # Before the first claim: a film that cannot be signed must not be rendered.
    identity = usable_identity()
    if identity.is_development:
        log.warning("Films are signed with the development certificate of this home; set CINEMETER_SIGNING_KEY.")
    worker = WorkerLoop(worker_id, pools)
    worker.open()
    _workers.append(worker)
    return worker


def current_worker() -> WorkerLoop:
    """Return the worker loop of this process. Raises RuntimeError outside a worker process."""
    if not _workers:
        raise RuntimeError("No worker is open: this is not a worker process.")
    return _workers[-1]


def stop_worker() -> None:
    """Close the worker loop of this process, if one is open."""
    while _workers:
        _workers.pop().close()
