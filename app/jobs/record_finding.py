"""Record what stands against an order that is none yet, and say so to its caller."""

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.db import commit_early
from app.errors import AppError
from app.jobs.order_restraints import forget_restraint
from app.moderation.check import UNCHECKED
from app.moderation.outcomes import CheckStage, Finding, Outcome
from app.moderation.record import record_before_order
from app.moderation.repeaters import count_refusal, scope_of

# What callers read of the categories of the shipped rules; a server's own are named as it names them.
_CATEGORY_LABELS = {"minors": "sexual content with minors", "nudification": "undressing people"}
_RETRY_SECONDS = 10


def record_finding(session: Session, caller: Caller, finding: Finding, stage: CheckStage, interface: str) -> None:
    """Record a finding in a transaction of its own, which a refusal does not take back."""
    commit_early(session)
    record_before_order(session, finding, stage, account_id=caller.account_id, test=caller.test, interface=interface)
    if counts_as_refusal(finding):
        count_refusal(session, caller.account_id, scope=scope_of(caller.project_id), test=caller.test)
        forget_restraint(caller)
    commit_early(session)


def counts_as_refusal(finding: Finding) -> bool:
    """Return whether a finding counts against whoever repeats refused orders: what could not be checked does not."""
    return finding.outcome is Outcome.REFUSE and finding.category != UNCHECKED


def refusal(finding: Finding, stage: CheckStage, *, field: str | None = None) -> AppError:
    """Return the error of an order that is refused; it names none of the words that were matched."""
    if finding.category == UNCHECKED:
        if stage is CheckStage.PROMPT:
            message = "The words of orders cannot be checked now. Nothing was ordered or charged; try again later."
        else:
            message = "The pictures of orders cannot be checked now. Nothing was ordered or charged; try again later."
        return AppError("unavailable", message, field=field, retry_after=_RETRY_SECONDS)
    label = _CATEGORY_LABELS.get(finding.category, finding.category)
    if stage is CheckStage.PROMPT:
        message = f"This service does not make what the prompt describes ({label}). Nothing was ordered or charged."
    else:
        message = f"This service makes no films of what the file shows ({label}). Nothing was ordered or charged."
    return AppError("content_refused", message, field=field, stage=str(stage), category=finding.category)
