"""The courier: claims due deliveries from Postgres, sends them, and records their outcomes.

Sending is asyncio, because a hundred connections wait at once; database calls are the same synchronous functions as
elsewhere, run in threads for many deliveries at a time, so that the event loop never blocks. It polls: one cheap claim
when nothing is due costs less than LISTEN/NOTIFY, whose commits are serialised by one global lock.

Each delivery arrives at least once. A courier that is killed loses nothing: the deliveries it had claimed become due
when its lease ends, and are sent again under the same webhook-id.
"""

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.clock import local_now
from app.db import new_id, transaction
from app.liveness import LIVENESS
from app.logs import bind_log_ids
from app.net import Egress, PostResult, Sender, Timings
from app.settings import get_settings
from app.trace import span
from app.webhooks.claim import DeliveryRequest, claim_deliveries
from app.webhooks.outcomes import AttemptResult, record_attempt, record_attempt_status
from app.webhooks.secret import SecretLostError, key_of
from app.webhooks.signing import sign

log = logging.getLogger("cinemeter.courier")

OpenSession = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class CourierLimits:
    """The courier's own limits; the limits of endpoints are in limits.py."""

    parallel: int = 100
    seconds: float = 15.0  # per attempt, from the name lookup to the last byte read
    lease_seconds: float = 30.0  # longer than an attempt and the record of its outcome can take
    poll_seconds: float = 0.5  # maximum while nothing is due; a tenth of it after a claim
    batch: int = 100  # outcomes recorded in one transaction at most

    @classmethod
    def configured(cls) -> "CourierLimits":
        """Return the limits of this process's settings."""
        settings = get_settings()
        seconds = settings.webhook_timeout_seconds
        return cls(settings.courier_parallel, seconds, lease_seconds=2 * seconds)


class Courier:
    """Runs until `stop` is set, then sends no more, waits for requests in flight, and records their outcomes."""

    def __init__(
        self,
        *,
        limits: CourierLimits | None = None,
        egress: Egress | None = None,
        open_session: OpenSession = transaction,
    ) -> None:
        self._limits = limits or CourierLimits.configured()
        self._egress = egress
        self._open_session = open_session
        self._name = new_id("crr")
        self._claims = count(1)
        self._in_flight: Counter[str] = Counter()  # by account; from the claim until the outcome is recorded
        self._done: asyncio.Queue[AttemptResult] = asyncio.Queue()
        self._changed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Send deliveries until `stop` is set. While the database is unreachable, it keeps trying."""
        async with Sender(self._egress, seconds=self._limits.seconds) as sender:
            reporter = asyncio.create_task(self._report_forever())
            sending: set[asyncio.Task[None]] = set()
            stopped = asyncio.create_task(stop.wait())
            wait = self._limits.poll_seconds
            while not stop.is_set():
                LIVENESS.record_step()
                requests = await self._claim()
                for request in requests:
                    task = asyncio.create_task(self._deliver(sender, request))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                # Events come in bursts: poll again soon after one, and less and less often while nothing is due.
                wait = self._limits.poll_seconds / 10 if requests else min(2 * wait, self._limits.poll_seconds)
                await self._pause(stopped, wait)
            await asyncio.gather(*sending)
            # An unreachable database must not block the exit: unrecorded deliveries are sent again after their lease.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.join(), self._limits.lease_seconds)
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    async def _claim(self) -> list[DeliveryRequest]:
        """Claim for the free slots and count the slots that each account holds."""
        self._changed.clear()
        free = self._limits.parallel - self._in_flight.total()
        if free <= 0:
            return []
        try:
            requests = await asyncio.to_thread(self._claim_now, free, dict(self._in_flight))
        except OperationalError as error:
            log.warning("claiming deliveries failed, trying again: %s", error)
            return []
        except Exception:
            log.exception("claiming deliveries failed, trying again")
            return []
        self._in_flight.update(request.account_id for request in requests)
        return requests

    def _claim_now(self, free: int, account_in_flight: dict[str, int]) -> list[DeliveryRequest]:
        with self._open_session() as session:
            return claim_deliveries(
                session,
                lease=f"{self._name}.{next(self._claims)}",
                lease_seconds=self._limits.lease_seconds,
                free=free,
                account_max=max(1, self._limits.parallel // 2),
                account_in_flight=account_in_flight,
            )

    async def _pause(self, stopped: asyncio.Task[bool], seconds: float) -> None:
        """Wait until slots become free, for `seconds` at most; an endpoint's next delivery may then be sent."""
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait((changed, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    async def _deliver(self, sender: Sender, request: DeliveryRequest) -> None:
        ids = request.ids()
        with bind_log_ids(**ids), span("delivery", parent=request.traceparent, **ids):
            self._done.put_nowait(await send(sender, request))

    async def _report_forever(self) -> None:
        """Record finished attempts in batches: what arrives while one batch is written is the next batch."""
        while True:
            batch = [await self._done.get()]
            while len(batch) < self._limits.batch and not self._done.empty():
                batch.append(self._done.get_nowait())
            while not await self._report(batch):
                await asyncio.sleep(self._limits.poll_seconds)
            self._in_flight.subtract(result.request.account_id for result in batch)
            self._in_flight = +self._in_flight
            self._changed.set()
            for _ in batch:
                self._done.task_done()

    async def _report(self, batch: Sequence[AttemptResult]) -> bool:
        """Record a batch; return whether it is settled. Only an unreachable database is worth a retry."""
        try:
            await asyncio.to_thread(self._report_now, batch)
        except OperationalError as error:
            log.warning("reporting %d attempts failed, trying again: %s", len(batch), error)
            return False
        except Exception:
            if len(batch) == 1:
                with bind_log_ids(**batch[0].request.ids()):
                    log.exception("the attempt of delivery %s cannot be written", batch[0].request.delivery_id)
                    return await self._report_status(batch[0])
            log.exception("reporting %d attempts failed, trying one by one", len(batch))
            for result in batch:
                while not await self._report([result]):
                    await asyncio.sleep(self._limits.poll_seconds)
        return True

    async def _report_status(self, result: AttemptResult) -> bool:
        """Settle one delivery by its status alone, so that an unwritable outcome is not retried for ever."""
        try:
            await asyncio.to_thread(self._report_status_now, result)
        except OperationalError as error:
            log.warning("settling delivery %s failed, trying again: %s", result.request.delivery_id, error)
            return False
        except Exception:
            log.exception("delivery %s cannot be settled; its lease will end", result.request.delivery_id)
        return True

    def _report_status_now(self, result: AttemptResult) -> None:
        with self._open_session() as session:
            record_attempt_status(session, result)

    def _report_now(self, batch: Sequence[AttemptResult]) -> None:
        with self._open_session() as session:
            record_attempt(session, batch)


async def send(sender: Sender, request: DeliveryRequest) -> AttemptResult:
    """Sign and post one request. Never raises: a failure on our side is an answer with the fault `internal`."""
    started_at = local_now()
    try:
        keys = [key_of(identifier, fingerprint) for identifier, fingerprint in request.secrets]
        headers = sign(keys, event_id=request.event_id, at=started_at, body=request.body)
        answer = await sender.post(request.url, request.body, headers | {"Content-Type": "application/json"})
    except (SecretLostError, ValueError) as error:
        log.error("delivery %s cannot be signed: %s", request.delivery_id, error)
        answer = PostResult(None, {}, b"", "internal", str(error), None, Timings(None, None, None, None, 0))
    except Exception as error:
        log.exception("delivery %s failed on our side", request.delivery_id)
        answer = PostResult(None, {}, b"", "internal", repr(error), None, Timings(None, None, None, None, 0))
    return AttemptResult(request, started_at, answer)


def run_courier(*, limits: CourierLimits | None = None, egress: Egress | None = None) -> None:
    """Run a courier in this process until SIGTERM or SIGINT; then finish the requests in flight and return."""
    asyncio.run(_run_until_signalled(Courier(limits=limits, egress=egress)))


async def _run_until_signalled(courier: Courier) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("courier started")
    await courier.run(stop)
    log.info("courier stopped")
