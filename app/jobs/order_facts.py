"""What an order has to know of its account, read in one statement once the account's submissions are locked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.accounts.billing_periods import billing_month
from app.accounts.caller import Caller, suspended_error
from app.accounts.memberships import FREE
from app.clock import clock_inputs, now, remember_now
from app.errors import AppError, not_found
from app.jobs.idempotency import KEYLESS_RETRY_MINUTES, OrderIdentity, scoped_key
from app.jobs.price_terms import PriceTerms
from app.jobs.rate_limits import share_of_tests
from app.moderation.repeaters import scope_of
from app.prices.find import no_book, recorded_book, recorded_contract
from app.prices.reservations import allowance_beside
from app.sql_statements import SqlStatement, sql_file
from pricing.rules import Membership
from pricing.usage import Customer

# One submission per account at a time: limits are counted, and a key is looked up, before the job is written.
# The statements that follow look up single rows, so one plan suits all values: to plan them for each order anew takes
# the database about as long as to run them.
_LOCK = SqlStatement(
    "SELECT pg_advisory_xact_lock(hashtext(:submissions)), set_config('plan_cache_mode', 'force_generic_plan', true)"
)
_READ = sql_file("app.jobs", "order_read.sql")


@dataclass(frozen=True)
class OrderFacts:
    """An account as an order of it meets it. Times are UTC; `free_uses` are flicks by billing month."""

    now: datetime
    account_id: str
    is_suspended: bool
    suspended_reason: str
    currency: str
    billing_zone: str
    queue_limit: int | None
    concurrency: int | None
    book: tuple[str, str] | None  # id and content hash, as is the contract
    contract: tuple[str, str] | None
    membership: str
    free_uses: Mapping[str, int]
    waiting: int  # unfinished jobs of the caller's mode, test or live
    has_pause: bool
    is_stopped: bool  # orders of the caller, after too many refused ones
    accepted_terms: frozenset[tuple[str, str]]
    project_id: str | None
    is_archived: bool | None  # the project; None where the account has no such project
    endpoints: tuple[tuple[str, list[str]], ...]
    may_repeat: bool

    @property
    def month(self) -> str:
        """The billing month of now."""
        return billing_month(self.billing_zone, self.now)

    def price_terms(self, session: Session) -> PriceTerms:
        """Return by what the order is priced. Raises AppError `no_rate` where no book is in force."""
        if self.book is None:
            raise no_book()
        book = recorded_book(session, *self.book)
        name = book.known_membership(self.membership)
        used = self.free_uses.get(self.month, 0)
        left = allowance_beside(session, self.account_id, book, name, self.now, free_used=used)
        contract = None if self.contract is None else recorded_contract(session, *self.contract)
        customer = Customer(name, contract, left.free_seconds, left.promotions)
        return PriceTerms(self.book[0], book, customer, self.now)

    def check_active(self) -> None:
        """Raise AppError `account_suspended` for an account suspended even after its caller was authenticated."""
        if self.is_suspended:
            raise suspended_error(self.suspended_reason)

    def check_queue(self, caller: Caller, membership: Membership, *, films: int = 1) -> None:
        """Raise AppError `queue_full` where the account may not have so many unfinished jobs more."""
        limit = membership.queue_limit if self.queue_limit is None else self.queue_limit
        if caller.test:
            limit = share_of_tests(limit)
        if self.waiting + films > limit:
            mode = "unfinished test jobs" if caller.test else "unfinished jobs"
            message = f"The account has {self.waiting} {mode}; its membership allows {limit}."
            if films > 1:
                message = f"{message} This order is for {films}."
            raise AppError("queue_full", message, allowed=limit)

    def check_project(self, caller: Caller, requested: str | None) -> None:
        """Check that the order may be for its project. A key of a project can order for that project only.

        Raises AppError `not_found`, `forbidden`, and `conflict` when the key's own project is archived.
        """
        if requested is None:
            if self.project_id is not None and self.is_archived:
                message = "The project of this key is archived and accepts no new jobs."
                raise AppError("conflict", message, field="project", project=self.project_id)
        elif self.is_archived is not False:
            raise not_found("project", requested)
        elif caller.project_id not in (None, requested):
            raise AppError("forbidden", "This key belongs to another project.", field="project")


def read_order_facts(session: Session, caller: Caller, order: OrderIdentity) -> OrderFacts:
    """Lock the account's submissions until the end of the transaction, and read what its order has to know."""
    request = order.request
    project_id = caller.project_id if request.project is None else request.project
    is_keyless = order.idempotency_key is None and (order.is_retry or order.is_first_try)
    _LOCK.run(session, {"submissions": f"submit:{caller.account_id}"})
    inputs = {
        "account_id": caller.account_id,
        "test": caller.test,
        "project_id": project_id,
        "scope": scope_of(caller.project_id),
        "key": scoped_key(caller, order),
        "repeated": order.fingerprint if is_keyless else None,
        "is_retry": order.is_retry,
        "retry_time": timedelta(minutes=KEYLESS_RETRY_MINUTES),
        "quote_id": request.quote_id if order.fingerprint else None,
    }
    row = _READ.run(session, inputs | clock_inputs(session)).one()
    remember_now(session, row.now)
    is_own = row.project is not None and row.project[0] == caller.account_id
    return OrderFacts(
        now=now(session),
        account_id=caller.account_id,
        is_suspended=row.is_suspended,
        suspended_reason=row.suspended_reason or "",
        currency=row.currency,
        billing_zone=row.billing_zone,
        queue_limit=row.queue_limit,
        concurrency=row.concurrency,
        book=None if row.book_id is None else (row.book_id, row.book_hash),
        contract=None if row.contract_id is None else (row.contract_id, row.contract_hash),
        membership=row.membership or FREE,
        free_uses=row.free_uses or {},
        waiting=row.waiting,
        has_pause=row.has_pause,
        is_stopped=row.is_stopped,
        accepted_terms=frozenset((model, words) for model, words in row.accepted_terms or ()),
        project_id=project_id,
        is_archived=row.project[1] if is_own else None,
        endpoints=tuple((endpoint, types) for endpoint, types in row.endpoints or ()),
        may_repeat=row.may_repeat,
    )
