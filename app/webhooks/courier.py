"""The courier: claims due deliveries from Postgres, sends them, and writes down what became of them.

Sending is asyncio, for a hundred connections wait at once; the database is asked by the same synchronous verbs as
everywhere, in threads, for many deliveries at a time, so that the event loop never waits for it. It polls: one cheap
claim when there is nothing to do costs less than LISTEN/NOTIFY, whose commits take turns under one global lock.

Each delivery arrives at least once. A courier that is killed loses nothing: what it had claimed falls due when its
lease ends, and goes out again under the same webhook-id.
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
from app.logs import bind_log_ids
from app.net import Egress, PostResult, Sender, Timings
from app.settings import get_settings
from app.trace import span
from app.webhooks.claim import DeliveryRequest, claim_deliveries
from app.webhooks.outcomes import AttemptResult, record_attempt, record_attempt_without_session
from app.webhooks.secret import SecretLostError, key_of
from app.webhooks.signing import sign

log = logging.getLogger("cinemeter.courier")

OpenSession = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class CourierLimits:
    """The courier's own limits; the endpoints' are in allowance.py."""

    parallel: int = 100
    seconds: float = 15.0  # one attempt, from the name lookup to the last byte read
    lease_seconds: float = 30.0  # longer than an attempt and its report can take
    poll_seconds: float = 0.5  # when nothing was due for a while; after a claim it begins at a tenth of that
    batch: int = 100  # attempts that are reported in one transaction at most

    @classmethod
    def configured(cls) -> "CourierLimits":
        """Return the limits of this process's settings."""
        settings = get_settings()
        seconds = settings.webhook_timeout_seconds
        return cls(settings.courier_parallel, seconds, lease_seconds=2 * seconds)


class Courier:
    """Runs until `stop` is set, then sends no more, waits for what is in flight, and reports it."""

    def __init__(
        self,
        *,
        pace: CourierLimits | None = None,
        egress: Egress | None = None,
        open_session: OpenSession = transaction,
    ) -> None:
        self._pace = pace or CourierLimits.configured()
        self._egress = egress
        self._open_session = open_session
        self._name = new_id("crr")
        self._claims = count(1)
        self._in_flight: Counter[str] = Counter()  # by account; from the claim until the report is written
        self._done: asyncio.Queue[AttemptResult] = asyncio.Queue()
        self._changed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Carry deliveries until `stop` is set. A database that is away is waited for."""
        async with Sender(self._egress, seconds=self._pace.seconds) as sender:
            reporter = asyncio.create_task(self._report_forever())
            sending: set[asyncio.Task[None]] = set()
            stopped = asyncio.create_task(stop.wait())
            wait = self._pace.poll_seconds
            while not stop.is_set():
                parcels = await self._claim()
                for parcel in parcels:
                    task = asyncio.create_task(self._carry(sender, parcel))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                # Events come in bursts: look again soon after one, and less and less often while nothing comes.
                wait = self._pace.poll_seconds / 10 if parcels else min(2 * wait, self._pace.poll_seconds)
                await self._pause(stopped, wait)
            await asyncio.gather(*sending)
            # A database that stays away must not hold our exit: what is not reported goes out again after its lease.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.join(), self._pace.lease_seconds)
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    async def _claim(self) -> list[DeliveryRequest]:
        """Claim for the free places and remember how many each account holds."""
        self._changed.clear()
        free = self._pace.parallel - self._in_flight.total()
        if free <= 0:
            return []
        try:
            parcels = await asyncio.to_thread(self._claim_now, free, dict(self._in_flight))
        except OperationalError as error:
            log.warning("claiming deliveries failed, trying again: %s", error)
            return []
        except Exception:
            log.exception("claiming deliveries failed, trying again")
            return []
        self._in_flight.update(parcel.account_id for parcel in parcels)
        return parcels

    def _claim_now(self, free: int, account_in_flight: dict[str, int]) -> list[DeliveryRequest]:
        with self._open_session() as session:
            return claim_deliveries(
                session,
                lease=f"{self._name}.{next(self._claims)}",
                lease_seconds=self._pace.lease_seconds,
                free=free,
                account_max=max(1, self._pace.parallel // 2),
                account_in_flight=account_in_flight,
            )

    async def _pause(self, stopped: asyncio.Task[bool], seconds: float) -> None:
        """Wait until places became free, for `seconds` at most; an endpoint's next delivery may then go out."""
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait((changed, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    async def _carry(self, sender: Sender, parcel: DeliveryRequest) -> None:
        ids = parcel.ids()
        with bind_log_ids(**ids), span("delivery", parent=parcel.traceparent, **ids):
            self._done.put_nowait(await send(sender, parcel))

    async def _report_forever(self) -> None:
        """Report finished attempts in batches: what came while one batch was written is the next batch."""
        while True:
            batch = [await self._done.get()]
            while len(batch) < self._pace.batch and not self._done.empty():
                batch.append(self._done.get_nowait())
            while not await self._report(batch):
                await asyncio.sleep(self._pace.poll_seconds)
            self._in_flight.subtract(sent.parcel.account_id for sent in batch)
            self._in_flight = +self._in_flight
            self._changed.set()
            for _ in batch:
                self._done.task_done()

    async def _report(self, batch: Sequence[AttemptResult]) -> bool:
        """Write a batch; return whether it is done with. Only a database that is away makes it worth a second try."""
        try:
            await asyncio.to_thread(self._report_now, batch)
        except OperationalError as error:
            log.warning("reporting %d attempts failed, trying again: %s", len(batch), error)
            return False
        except Exception:
            if len(batch) == 1:
                log.exception("the attempt of delivery %s cannot be written", batch[0].parcel.delivery_id)
                return await self._report_plainly(batch[0])
            log.exception("reporting %d attempts failed, trying one by one", len(batch))
            for sent in batch:
                while not await self._report([sent]):
                    await asyncio.sleep(self._pace.poll_seconds)
        return True

    async def _report_plainly(self, sent: AttemptResult) -> bool:
        """Settle one delivery by its status alone, so that what cannot be written does not go out for ever."""
        try:
            await asyncio.to_thread(self._report_plainly_now, sent)
        except OperationalError as error:
            log.warning("settling delivery %s failed, trying again: %s", sent.parcel.delivery_id, error)
            return False
        except Exception:
            log.exception("delivery %s cannot be settled; its lease will end", sent.parcel.delivery_id)
        return True

    def _report_plainly_now(self, sent: AttemptResult) -> None:
        with self._open_session() as session:
            record_attempt_without_session(session, sent)

    def _report_now(self, batch: Sequence[AttemptResult]) -> None:
        with self._open_session() as session:
            record_attempt(session, batch)


async def send(sender: Sender, parcel: DeliveryRequest) -> AttemptResult:
    """Sign and post one parcel. It raises nothing: what breaks on our side is an answer with the fault `internal`."""
    started_at = local_now()
    try:
        keys = [key_of(identifier, fingerprint) for identifier, fingerprint in parcel.secrets]
        headers = sign(keys, event_id=parcel.event_id, at=started_at, body=parcel.body)
        answer = await sender.post(parcel.url, parcel.body, headers | {"Content-Type": "application/json"})
    except (SecretLostError, ValueError) as error:
        log.error("delivery %s cannot be signed: %s", parcel.delivery_id, error)
        answer = PostResult(None, {}, b"", "internal", str(error), None, Timings(None, None, None, None, 0))
    except Exception as error:
        log.exception("delivery %s broke on our side", parcel.delivery_id)
        answer = PostResult(None, {}, b"", "internal", repr(error), None, Timings(None, None, None, None, 0))
    return AttemptResult(parcel, started_at, answer)


def run_courier(*, pace: CourierLimits | None = None, egress: Egress | None = None) -> None:
    """Run a courier in this process until SIGTERM or SIGINT; then finish what is in flight and return."""
    asyncio.run(_run_until_signalled(Courier(pace=pace, egress=egress)))


async def _run_until_signalled(courier: Courier) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("courier started")
    await courier.run(stop)
    log.info("courier stopped")
