"""An account with endpoints, events and deliveries, made by the real functions; and responses of receivers."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.tables import Account, Project
from app.clock import now
from app.db import new_id
from app.events.record import record_event
from app.events.tables import Event
from app.net import Fault, PostResult, Timings
from app.webhooks.claim import DeliveryRequest, claim_deliveries
from app.webhooks.endpoints import create_endpoint
from app.webhooks.fanout import fan_out
from app.webhooks.outcomes import AttemptResult, record_attempt
from app.webhooks.schemas import EndpointCreate, EndpointOut
from app.webhooks.tables import Delivery

URL = "https://hooks.example.com/in"


def open_account(session: Session, *, test: bool = False) -> Caller:
    account = Account(
        id=new_id("acct"),
        name="Hooks",
        currency="CNY",
        billing_zone="Asia/Shanghai",
        test=False,
        created_at=now(session),
    )
    session.add(account)
    session.flush()
    scopes = frozenset({"videos", "webhooks"})
    return Caller(account, scopes, frozenset(), test=test)


def open_project(session: Session, caller: Caller, name: str = "unit") -> str:
    project = Project(id=new_id("proj"), account_id=caller.account_id, name=name, created_at=now(session))
    session.add(project)
    session.flush()
    return project.id


def open_endpoint(session: Session, caller: Caller, url: str = URL, **rest: object) -> EndpointOut:
    return create_endpoint(session, caller, EndpointCreate.model_validate({"url": url} | rest))


def publish(
    session: Session,
    caller: Caller,
    type_: str = "video.completed",
    *,
    project_id: str | None = None,
    callback_url: str | None = None,
) -> Event:
    """Write an event of a job of its own, and its deliveries."""
    job_id = new_id("video") if type_.startswith("video.") else None
    event = record_event(
        session,
        account_id=caller.account_id,
        project_id=project_id,
        job_id=job_id,
        type=type_,
        data={"id": job_id or caller.account_id, "price": {"total": "2.19"}},
        callback_url=callback_url,
        test=caller.test,
    )
    fan_out(session, event)
    return event


def claim_due(session: Session, *, free: int = 100, lease_seconds: float = 30.0) -> list[DeliveryRequest]:
    """Claim what is due, as a courier with many free places does."""
    return claim_deliveries(
        session,
        lease=new_id("lease"),
        lease_seconds=lease_seconds,
        free=free,
        account_max=free,
        account_in_flight={},
    )


def answered(
    status: int | None = 200, *, fault: Fault | None = None, retry_after: str | None = None, body: bytes = b"ok"
) -> PostResult:
    headers = {"retry-after": retry_after} if retry_after else {}
    return PostResult(status, headers, body, fault, "detail", "203.0.113.9", Timings(1, 2, 3, 4, 10))


def finish(session: Session, requests: list[DeliveryRequest], answer: PostResult, at: datetime | None = None) -> None:
    """Report the same answer for all of these requests."""
    started_at = at or now(session)
    record_attempt(session, [AttemptResult(request, started_at, answer) for request in requests])


def reload(session: Session, delivery_id: str) -> Delivery:
    session.expire_all()
    return session.get_one(Delivery, delivery_id)


def let_pass(session: Session, time: timedelta) -> datetime:
    """Let time pass for everything that this session asks, and return the moment after."""
    session.info["clock_offset"] = session.info.get("clock_offset", timedelta(0)) + time
    session.commit()
    return now(session)
