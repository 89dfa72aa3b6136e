"""A service without pictures: orders go through the real functions on the real database, and the test sets what a
worker would render, join and measure. A virtual clock moves only when the test moves it."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from app.accounts.accounts import create_account, get_account
from app.accounts.caller import Caller
from app.accounts.memberships import FREE, grant_membership
from app.clock import now
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import LeaseLost, fail_take, release_take, succeed_finish, succeed_segment
from app.dispatch.scheduler import REPAIRS
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.idempotency import OrderIdentity
from app.jobs.queue_tables import Unit
from app.jobs.quote import make_quote
from app.jobs.schemas import VideoRequest
from app.jobs.settle import StoredFilm
from app.jobs.spec import Spec
from app.jobs.submit import submit
from app.jobs.tables import Job, Quote, ReceiptRow
from app.prices.seed import seed_book
from app.reports.audit import audit_books
from app.wallet.balance import balance, open_wallet
from app.wallet.funds import top_up

Result = TypeVar("Result")

POOLS = ["finish", "synthetic"]
# Wake-ups, live messages and metrics follow a commit; here nobody listens, and only the rows count.
_FOLLOWS = "cinemeter_after_commit"


class Line:
    """One service on one session. Every action is a transaction of its own, and the clock stands still between them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        # The clock stands, so that the same acts in the same order always meet the same moments.
        session.info.setdefault("clock_at", now(session))
        self.act(lambda: seed_book(session))

    def act(self, verb: Callable[[], Result]) -> Result:
        """Run one action in a transaction of its own, which is rolled back if it raises."""
        try:
            done = verb()
        except BaseException:
            self.session.rollback()
            raise
        self.session.info.pop(_FOLLOWS, None)
        self.session.commit()
        # No two acts share a moment, so their order is never left to a random id.
        self.session.info["clock_at"] += timedelta(milliseconds=1)
        return done

    def wait(self, **length: float) -> datetime:
        """Let virtual time pass."""
        self.session.commit()
        self.session.info["clock_at"] += timedelta(**length)
        return now(self.session)

    def skip_to_mid_month(self) -> None:
        """Go on to the tenth day of next month, so that what a test waits for cannot end a month."""
        self.session.commit()
        moment: datetime = self.session.info["clock_at"]
        self.session.info["clock_at"] = (moment.replace(day=1) + timedelta(days=32)).replace(day=10, hour=4)

    def open(
        self, name: str = "Alice", *, membership: str = "professional", credit: int = 100_000, test: bool = False
    ) -> Caller:
        """Open an account with money and return its caller, as a key of it would be."""

        def verb() -> str:
            account = create_account(self.session, name)
            open_wallet(self.session, account.id)
            if credit:
                top_up(self.session, account.id, credit, kind="purchased", reference=f"first {account.id}")
            if membership != FREE:
                grant_membership(self.session, account.id, membership, starts_at=now(self.session) - timedelta(days=1))
            return account.id

        account_id = self.act(verb)
        scopes = frozenset({"videos", "billing", "webhooks"})
        return Caller(get_account(self.session, account_id), scopes, frozenset(), test=test)

    def quote(self, caller: Caller, **fields: Any) -> Quote:
        return self.act(lambda: make_quote(self.session, caller, request(**fields)))

    def order(self, caller: Caller, *, key: str | None = None, **fields: Any) -> Job:
        video_request = request(**fields)
        order = OrderIdentity(video_request, idempotency_key=key, fingerprint=video_request.model_dump_json())
        return self.act(lambda: submit(self.session, caller, order))

    def start(self, pools: Iterable[str] = POOLS, worker: str = "worker-1") -> Claim | None:
        return self.act(lambda: claim(self.session, worker, list(pools)))

    def make(self, lease: Claim, *, gpu_seconds: str = "1.500") -> None:
        """End a segment as a worker does that has uploaded its clip."""
        meter = {"gpu_seconds": gpu_seconds}
        self.act(
            lambda: succeed_segment(
                self.session, lease, clip_key=f"clips/{lease.take_id}.mp4", handover_key=None, meter=meter
            )
        )

    def deliver(self, lease: Claim, *, frames: int | None = None) -> None:
        """End a finish: the film lies in storage and was measured there."""
        self.act(lambda: succeed_finish(self.session, lease, self.film(lease, frames), meter={"gpu_seconds": "0.000"}))

    def film(self, lease: Claim, frames: int | None = None) -> StoredFilm:
        job = self.session.get_one(Job, lease.job_id)
        spec = Spec.model_validate(job.spec)
        rendered = sum(unit.frames for unit in self.units(job) if unit.kind == "segment" and unit.state == "done")
        reused = spec.frames - spec.billed_frames()
        return StoredFilm(
            key=f"films/{lease.take_id}.mp4",
            poster_key=f"films/{lease.take_id}.jpg",
            sprites_key=f"films/{lease.take_id}-sprites.jpg",
            sha256="0" * 64,
            bytes=1000,
            frames=min(rendered, spec.billed_frames()) + reused if frames is None else frames,
            fps=Fraction(spec.fps),
            width=spec.width,
            height=spec.height,
            has_audio=False,
            reused_frames=reused,
            facts={},
        )

    def fail(self, lease: Claim, *, permanent: bool = True, code: str = "engine_failed") -> None:
        self.act(lambda: fail_take(self.session, lease, code=code, message="It broke.", permanent=permanent))

    def release(self, lease: Claim) -> None:
        self.act(lambda: release_take(self.session, lease))

    def cancel(self, caller: Caller, job_id: str) -> Job:
        return self.act(lambda: request_cancel(self.session, find_job(self.session, caller, job_id, lock=True)))

    def sweep(self, *names: str) -> dict[str, int]:
        """Run the scheduler's repairs, all or those named; each item in a transaction of its own."""

        def one(name: str) -> int:
            repair = REPAIRS[name]
            due = self.act(lambda: repair.find(self.session))
            return sum(self.act(lambda each=each: repair.repair(self.session, each)) for each in due)

        return {name: one(name) for name in names or REPAIRS}

    def work(self) -> None:
        """Run all queued units."""
        while (lease := self.start()) is not None:
            if lease.kind == "finish":
                self.deliver(lease)
            else:
                self.make(lease)

    def lost(self, act: Callable[[], object]) -> bool:
        """Return whether an action failed because its lease was lost."""
        try:
            act()
        except LeaseLost:
            return True
        return False

    def job(self, job_id: str) -> Job:
        self.session.expire_all()
        return self.session.get_one(Job, job_id)

    def units(self, job: Job) -> list[Unit]:
        return list(self.session.query(Unit).filter_by(job_id=job.id))

    def receipt(self, job_id: str) -> ReceiptRow:
        return self.session.get_one(ReceiptRow, job_id)

    def posted(self, caller: Caller) -> int:
        return balance(self.session, caller.account_id).posted

    def check(self) -> None:
        """Every promise about money and jobs holds."""
        assert audit_books(self.session) == []
        self.session.commit()


def request(**fields: Any) -> VideoRequest:
    """A small order of the synthetic model, with these fields."""
    values: dict[str, Any] = {"model": "synthetic", "resolution": "720P", **fields}
    if "shots" not in values:
        values.setdefault("prompt", "bars")
    return VideoRequest(**values)
