"""The inbox of the console: what waits for this admin, and what needs an operator's attention."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import ScalarSelect, Select, select, text
from sqlalchemy.orm import Session, aliased

from app.accounts.role_holders import persons_with_role
from app.accounts.tables import Account
from app.admin.moderation import MODERATORS, waiting_reviews
from app.admin.tables import TopUpRequest
from app.catalog.models import load_catalog
from app.clock import now
from app.moderation.repeaters import list_stops
from app.prices.find import book_at, newest_book
from app.prices.tables import PriceDocumentState, StoredBook, StoredContract
from app.reports.display_names import display_names
from app.reports.service_overview import read_days
from app.reports.workers import unserved_pools
from app.roles import Role
from app.settings import get_settings
from app.takedowns.categories import CATEGORIES
from app.takedowns.reports import open_reports
from app.webhooks.tables import Endpoint
from pricing.money import minor_per_major

# An endpoint that fails for shorter may be restarting.
FAILING_AFTER = timedelta(minutes=15)
# The margin of the last week, in per cent of its revenue, below which the inbox says so.
LOW_MARGIN_PERCENT = 20
MARGIN_DAYS = 7
# One item of a kind more than these is read, so that the count in the navigation can say that there are more.
ITEMS_MAX = 50
# Of several failing endpoints, the addresses that the item names.
URLS_MAX = 3


Document = TypeVar("Document", StoredBook, StoredContract)


class InboxKind(StrEnum):
    """What an item of the inbox is about."""

    BOOK_APPROVAL = "book_approval"
    BOOK_SCHEDULE = "book_schedule"
    CONTRACT_APPROVAL = "contract_approval"
    CONTRACT_SCHEDULE = "contract_schedule"
    TOP_UP = "top_up"
    WEBHOOK = "webhook"
    NO_WORKER = "no_worker"
    LOW_MARGIN = "low_margin"
    REPORT = "report"
    REVIEW = "review"
    ORDERS_STOPPED = "orders_stopped"


@dataclass(frozen=True)
class InboxItem:
    """One thing that waits. `title` names it, `detail` adds what its kind has: a reason, an amount, a percentage.

    `amount` is in minor units of `currency`. `since` is when it began to wait, None where that is not known; of a
    report or a review, by when it is to be decided.
    """

    kind: InboxKind
    id: str
    title: str
    detail: str = ""
    by: str = ""
    since: datetime | None = None
    account_id: str = ""
    amount: int = 0
    currency: str = ""


def read_inbox(session: Session, person: str, roles: frozenset[str], zone: str) -> list[InboxItem]:
    """Return what waits for a person with these roles; `zone` is that of the days of the margin."""
    items: list[InboxItem] = []
    if roles & {Role.PRICING_APPROVER, Role.PRICING_AUTHOR}:
        items += _documents(session, person, roles)
    if roles & set(MODERATORS):
        items += _reviews(session)
    if Role.OPERATOR in roles:
        items += [
            *_reports(session),
            *_stops(session),
            *_top_ups(session, person),
            *_no_worker(session),
            *_webhooks(session),
        ]
        items += _low_margin(session, ZoneInfo(zone))
    names = display_names(session, [name for each in items for name in (each.by, each.account_id)])
    return [_named(each, names) for each in items]


def _named(item: InboxItem, names: dict[str, str]) -> InboxItem:
    values = {**vars(item), "by": names.get(item.by, item.by)}
    if item.kind in (InboxKind.TOP_UP, InboxKind.WEBHOOK, InboxKind.ORDERS_STOPPED) and item.account_id:
        values["title"] = names.get(item.account_id, item.account_id)
    return InboxItem(**values)


def _documents(session: Session, person: str, roles: frozenset[str]) -> Iterator[InboxItem]:
    """Yield drafts that this person may approve, and approved books and contracts that nobody has scheduled."""
    newest = newest_book(session)
    # A draft of an older book can no longer be scheduled, so it waits for nobody; nor does one of an older contract.
    books = _waiting(StoredBook, roles).where(StoredBook.based_on == (newest.id if newest else None))
    contracts = _waiting(StoredContract, roles).where(StoredContract.based_on.is_not_distinct_from(_newest_contract()))
    approval = (InboxKind.BOOK_APPROVAL, InboxKind.CONTRACT_APPROVAL)
    schedule = (InboxKind.BOOK_SCHEDULE, InboxKind.CONTRACT_SCHEDULE)
    documents: list[tuple[int, StoredBook | StoredContract]] = [
        *((0, each) for each in _for_person(session, StoredBook, books, person)),
        *((1, each) for each in _for_person(session, StoredContract, contracts, person)),
    ]
    for index, each in documents:
        is_draft = each.state == "draft"
        document = each.book if isinstance(each, StoredBook) else each.contract
        yield InboxItem(
            approval[index] if is_draft else schedule[index],
            each.id,
            document.title.en,
            detail=each.note,
            by=each.author,
            since=each.edited_at if is_draft else each.approved_at,
            account_id=each.account_id if isinstance(each, StoredContract) else "",
        )


def _waiting(kind: type[Document], roles: frozenset[str]) -> Select[Document]:
    """Return the query of documents that wait for these roles, newest first: drafts for approvers only."""
    # Written out, as the condition of the partial index.
    query = select(kind).where(text("state IN ('draft', 'approved')"))
    if Role.PRICING_APPROVER not in roles:
        query = query.where(kind.state == "approved")
    return query.order_by(kind.edited_at.desc()).limit(ITEMS_MAX + 1)


def _for_person(session: Session, kind: type[Document], query: Select[Document], person: str) -> Iterator[Document]:
    """Yield what waits for a person: one's own drafts only where nobody else could approve them."""
    yield from session.scalars(query.where((kind.state != "draft") | (kind.author != person)))
    own_drafts = session.scalars(query.where(kind.state == "draft", kind.author == person)).all()
    # Asked only where it matters: it reads all members and keys.
    if own_drafts and not persons_with_role(session, Role.PRICING_APPROVER) - {person}:
        yield from own_drafts


def _newest_contract() -> ScalarSelect[str]:
    """Return the id of the newest contract of the account of a contract, on which a draft must be based."""
    newest = aliased(StoredContract)
    return (
        select(newest.id)
        .where(newest.account_id == StoredContract.account_id, newest.state == str(PriceDocumentState.SCHEDULED))
        .order_by(newest.effective_at.desc())
        .limit(1)
        .correlate(StoredContract)
        .scalar_subquery()
    )


def _top_ups(session: Session, person: str) -> Iterator[InboxItem]:
    """Yield top-ups that another operator requested, newest first; one's own only for a sole operator."""
    query = (
        select(TopUpRequest, Account.currency)
        .join(Account, Account.id == TopUpRequest.account_id)
        .where(text("top_up_requests.state = 'open'"))
        .order_by(TopUpRequest.requested_at.desc())
        .limit(ITEMS_MAX + 1)
    )
    rows = list(session.execute(query.where(TopUpRequest.requested_by != person)))
    own_rows = session.execute(query.where(TopUpRequest.requested_by == person)).all()
    if own_rows and not persons_with_role(session, Role.OPERATOR) - {person}:
        rows += own_rows
    for each, currency in rows:
        yield InboxItem(
            InboxKind.TOP_UP,
            each.id,
            "",
            detail=each.reference,
            by=each.requested_by,
            since=each.requested_at,
            account_id=each.account_id,
            amount=each.amount,
            currency=currency,
        )


def _reports(session: Session) -> Iterator[InboxItem]:
    """Yield the most urgent report of a film that waits for a decision, and how many there are."""
    reports = open_reports(session, limit=ITEMS_MAX + 1)
    if reports:
        count = f"{ITEMS_MAX}+" if len(reports) > ITEMS_MAX else str(len(reports))
        label = CATEGORIES[reports[0].category].label
        yield InboxItem(InboxKind.REPORT, reports[0].id, label, detail=count, since=reports[0].due_at)


def _reviews(session: Session) -> Iterator[InboxItem]:
    """Yield the oldest order that waits for a moderator, and how many there are."""
    reviews = waiting_reviews(session, limit=ITEMS_MAX + 1)
    if reviews:
        count = f"{ITEMS_MAX}+" if len(reviews) > ITEMS_MAX else str(len(reviews))
        yield InboxItem(InboxKind.REVIEW, reviews[0].id, reviews[0].category, detail=count, since=reviews[0].due_at)


def _stops(session: Session) -> Iterator[InboxItem]:
    """Yield the accounts whose orders were stopped, as too many of them were refused: each once, newest first."""
    accounts = {stop.account_id: stop for stop in reversed(list_stops(session, limit=ITEMS_MAX + 1))}
    for account_id, newest in reversed(accounts.items()):
        yield InboxItem(InboxKind.ORDERS_STOPPED, newest.id, "", account_id=account_id, since=newest.stopped_at)


def _no_worker(session: Session) -> Iterator[InboxItem]:
    """Yield one item with the pools of enabled models that no worker serves, and those of films that are joined."""
    catalog = load_catalog(get_settings().catalog_dir).values()
    # The synthetic model serves test keys only.
    pools = {model.pool for model in catalog if model.enabled and model.family != "synthetic"} | {"finish"}
    if unserved := unserved_pools(session, pools):
        yield InboxItem(InboxKind.NO_WORKER, "workers", ", ".join(unserved))


def _webhooks(session: Session) -> Iterator[InboxItem]:
    """Yield one item for the webhook endpoints that have failed for some time and are not disabled yet."""
    since = now(session) - FAILING_AFTER
    query = (
        select(Endpoint)
        .where(text("failing_since IS NOT NULL AND deleted_at IS NULL AND disabled_at IS NULL"))
        .where(Endpoint.failing_since <= since, Endpoint.test.is_(False))
        .order_by(Endpoint.failing_since)
        .limit(ITEMS_MAX + 1)
    )
    endpoints = session.scalars(query).all()
    if len(endpoints) > 1:
        count = f"{ITEMS_MAX}+" if len(endpoints) > ITEMS_MAX else str(len(endpoints))
        urls = ", ".join(each.url for each in endpoints[:URLS_MAX])
        yield InboxItem(InboxKind.WEBHOOK, "webhooks", count, detail=urls, since=endpoints[0].failing_since)
        return
    for each in endpoints:
        yield InboxItem(
            InboxKind.WEBHOOK, each.id, "", detail=each.url, since=each.failing_since, account_id=each.account_id
        )


def _low_margin(session: Session, zone: ZoneInfo) -> Iterator[InboxItem]:
    """Yield the margin of the last days where it is low; days without a charge have none."""
    moment = now(session)
    currency = book_at(session, moment).book.currency
    days = read_days(session, moment.astimezone(zone).date() - timedelta(days=MARGIN_DAYS - 1), zone).values()
    revenue = sum(day.charged - day.refunded for day in days)
    gpu_seconds = sum((day.gpu_seconds for day in days), Decimal(0))
    cost = int(gpu_seconds * Decimal(get_settings().gpu_second_cost) * minor_per_major(currency))
    if revenue > 0 and 100 * (revenue - cost) < LOW_MARGIN_PERCENT * revenue:
        percent = f"{100 * Decimal(revenue - cost) / revenue:.1f}".replace("-", "−")
        yield InboxItem(InboxKind.LOW_MARGIN, "margin", percent, amount=revenue - cost, currency=currency)
