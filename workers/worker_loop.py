"""The desk of a worker process: who it is, what it has loaded, and its loop of claim and work."""

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import NoReturn

from app.catalog.models import VideoModel, load_catalog
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.worker_registry import deregister_worker, heartbeat, register_worker
from app.logs import bind_log_ids
from app.settings import get_settings
from app.trace import span
from workers.checkpoints import sweep_checkpoints
from workers.engine import Engine, EnginePoisoned, make_engine
from workers.engine.host_info import machine_facts
from workers.engine.memory_watchdog import MemoryGrowth
from workers.finish import finish
from workers.prefetch import Prefetcher
from workers.render import render
from workers.temp_dirs import sweep_temp_dirs
from workers.upload_stage import UploadStage

log = logging.getLogger(__name__)

PRESENCE_SECONDS = 1.0
# How often an idle main thread looks for new work while the tail still ends the last take.
LOOK_SECONDS = 0.5


class WorkerLoop:
    """One worker process, and its threads.

    The main thread claims and renders; the tail uploads and ends what was rendered; a look ahead prepares what probably
    comes next; and a side thread tells the roster that the process lives.
    """

    def __init__(self, worker_id: str, pools: list[str]) -> None:
        self.worker_id = worker_id
        self.pools = pools
        self.device = get_settings().device or best_device()
        self._engine: Engine | None = None
        self._model: VideoModel | None = None
        self._growth = MemoryGrowth()
        self._tail = UploadStage()
        self._ahead = Prefetcher()
        self._take_id: str | None = None
        # Set once it can answer a ring; until then it may still be loading its model.
        self._ready = threading.Event()
        self._draining = threading.Event()
        self._closed = threading.Event()
        self._presence = threading.Thread(target=self._be_present, name="presence", daemon=True)

    def open(self) -> None:
        """Sign on to the roster and begin to tell of oneself; leave no files of processes and units that are gone."""
        sweep_checkpoints()
        sweep_temp_dirs()
        with transaction() as session:
            register_worker(
                session,
                self.worker_id,
                pools=self.pools,
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self.device,
                facts=machine_facts(self.device),
                state="starting",
            )
        self._presence.start()

    def warm_up(self) -> None:
        """Load the model of this worker's pools ahead of its first take, where they have exactly one.

        What keeps it from being loaded, its first take will meet again and say so.
        """
        models = [each for each in load_catalog(get_settings().catalog_dir).values() if self._serves(each)]
        try:
            if len(models) == 1:
                self._load(models[0])
        except Exception:
            log.exception("The model %s could not be loaded ahead of its first take", models[0].id)
        finally:
            self._ready.set()

    def _serves(self, model: VideoModel) -> bool:
        return model.enabled and model.pool in self.pools and model.family != "synthetic"

    def close(self) -> None:
        """End the takes that are being ended, and sign off; a worker that cannot is off the roster after a minute."""
        self._tail.close()
        self._ahead.close()
        self._closed.set()
        # A word of presence under way would come after the sign-off, over a connection that nobody closes any more.
        if self._presence.is_alive():
            self._presence.join(timeout=10)
        if self._engine is not None:
            self._engine.close()
        with suppress(Exception), transaction() as session:
            deregister_worker(session, self.worker_id)

    def work(self) -> None:
        """Claim and work until nothing is left or the worker drains, and until what was begun has ended.

        While the tail uploads the last take, the next one is claimed and rendered. Where there is none, the end of
        the upload may make one ready, and others may come meanwhile, so the queue is looked at until it has ended.
        """
        self._ready.set()
        try:
            while not self._draining.is_set():
                ending = self._tail.is_busy()
                claimed = self._claim()
                if claimed is not None:
                    self._answer(claimed)
                elif ending:
                    self._tail.wait(LOOK_SECONDS)
                else:
                    return
        finally:
            self._tail.wait()

    def _claim(self) -> Claim | None:
        with transaction() as session:
            return claim(session, self.worker_id, self.pools, self._model.id if self._model else None)

    def _answer(self, claimed: Claim) -> None:
        self._take_id = claimed.take_id
        try:
            ids = claimed.ids()
            with bind_log_ids(**ids), span(claimed.kind, parent=claimed.traceparent, pool=claimed.pool, **ids):
                self._do(claimed)
        finally:
            self._take_id = None

    def _do(self, claimed: Claim) -> None:
        log.info("A take of a %s begins", claimed.kind)
        if claimed.kind == "finish":
            finish(claimed)
            return
        try:
            render(claimed, lambda: self.engine_of(claimed), self._tail, self._ahead)
        except EnginePoisoned:
            # The process is not fit for another customer's work; the supervisor starts a fresh one. What the tail is
            # ending was rendered before, and closing waits for it.
            log.critical("The engine failed its canary; this process ends.")
            self._end()
        # What loads nothing says nothing about the size of what is loaded.
        rendered = self._model_of(claimed)
        if (self._model or rendered).id == rendered.id and self._growth.is_too_large():
            # Closing waits for the tail, so nothing is lost: the sweeper rings again for what is ready.
            log.warning("This process has grown too large and ends; a fresh one takes its place.")
            self._end()

    def _end(self) -> NoReturn:
        """Close and end this process, so that the supervisor starts a fresh one."""
        try:
            self.close()
        except Exception:
            # The weights of a broken device cannot be let go of either; they go with the process.
            log.exception("This process could not be closed in order")
        finally:
            os._exit(70)

    def engine_of(self, claimed: Claim) -> Engine:
        """Return the engine for a claim, loaded; the one that was loaded for another model makes room first."""
        model = self._model_of(claimed)
        if model.architecture is None:
            # It has no weights, so what is loaded stays: a test order must not cost the next customer a load.
            return make_engine(model, self.device)
        if self._engine is None or self._model is None or self._model.id != model.id:
            if self._engine is not None:
                self._ahead.rest()
                self._engine.close()
                self._engine, self._model = None, None
            return self._load(model)
        return self._engine

    def _load(self, model: VideoModel) -> Engine:
        engine = make_engine(model, self.device)
        engine.load()
        self._engine, self._model = engine, model
        self._growth.begin_anew()
        return engine

    def _model_of(self, claimed: Claim) -> VideoModel:
        catalog = load_catalog(get_settings().catalog_dir)
        # A test key's job keeps the name of the model it asked for, and is rendered as colour bars.
        return catalog["synthetic" if claimed.pool == "synthetic" else claimed.model]

    def _be_present(self) -> None:
        while not self._closed.wait(PRESENCE_SECONDS):
            resident = self._model.id if self._model else None
            try:
                with transaction() as session:
                    orders = heartbeat(
                        session, self.worker_id, state=self._state(), take_id=self._take_id, resident_model=resident
                    )
            except Exception as error:  # noqa: BLE001 — the database may be away; the next second tries again.
                log.warning("The roster could not be told: %s", error)
                continue
            if orders.drain:
                self._draining.set()
            else:
                self._draining.clear()
            if orders.leave_in is not None and not self._ready.is_set():
                self._leave_unready()

    def _state(self) -> str:
        """Return the word that the roster has for what the worker does now."""
        if self._draining.is_set():
            return "draining"
        if not self._ready.is_set():
            return "starting"
        return "busy" if self._take_id is not None or self._tail.is_busy() else "idle"

    def _leave_unready(self) -> None:
        """End the process while its main thread loads, which cannot be interrupted; there is nothing to hand back."""
        log.info("This worker leaves before it has loaded its model.")
        with suppress(Exception), transaction() as session:
            deregister_worker(session, self.worker_id)
        os._exit(0)


def best_device() -> str:
    """Return the first CUDA device, or the CPU where there is none or torch is not installed."""
    try:
        from workers.engine.load import first_device
    except ImportError:
        return "cpu"
    return first_device()


# One desk per process; a list, because a worker process opens it at its start and closes it at its end.
_desks: list[WorkerLoop] = []


def start_worker(worker_id: str, pools: list[str]) -> WorkerLoop:
    """Open the desk of this process."""
    desk = WorkerLoop(worker_id, pools)
    desk.open()
    _desks.append(desk)
    return desk


def current_worker() -> WorkerLoop:
    """Return the desk of this process. Raises RuntimeError outside a worker process."""
    if not _desks:
        raise RuntimeError("No desk is open: this is not a worker process.")
    return _desks[-1]


def stop_worker() -> None:
    """Close the desk of this process, if one is open."""
    while _desks:
        _desks.pop().close()
