"""How much of what an order's caller may commit is committed: the wallet, or a budget that has less left."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.wallet.balance import balance

_REMEMBERED = "committed spend"


@dataclass(frozen=True)
class CommittedSpend:
    """What may be committed at once and what is, in minor units of the currency. Open holds count."""

    limit: int
    current: int
    currency: str

    @property
    def remaining(self) -> int:
        """What another hold may take; below zero where a limit was lowered under what is committed."""
        return self.limit - self.current


def spend_after_hold(session: Session, account_id: str, placed: Any, currency: str) -> CommittedSpend:
    """Return the committed spend after a hold, of the wallet or of the budget that leaves less.

    `placed` is the row that hold.sql returned.
    """
    available, held = placed.wallet_available, placed.wallet_held
    if held is None:
        # The hold was repeated once expired credit was booked.
        wallet = balance(session, account_id)
        available, held = wallet.available, wallet.held
    spends = [CommittedSpend(int(available) + held, held, currency)]
    for limit, used in ((placed.budget_total, placed.key_used), (placed.budget_month, placed.project_used)):
        if limit is not None:
            spends.append(CommittedSpend(limit, used, currency))
    return min(spends, key=lambda spend: spend.remaining)


def remember_committed_spend(session: Session, job_id: str, spend: CommittedSpend) -> None:
    """Keep the spend after the hold of a job that this session orders, for the headers of its answer."""
    session.info.setdefault(_REMEMBERED, {})[job_id] = spend


def committed_spend(session: Session, job_id: str) -> CommittedSpend | None:
    """Return the spend after the hold of a job, or None for a job that an earlier call ordered."""
    spend: CommittedSpend | None = session.info.get(_REMEMBERED, {}).get(job_id)
    return spend
