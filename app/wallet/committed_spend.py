"""How much of what an order's caller may commit is committed: the wallet, or a budget that has less left."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.roles import Scope
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


@dataclass(frozen=True)
class CommittedSpends:
    """The committed spend of the wallet, and those of the budgets of the key and of the project, where they have one.

    Not every caller may see the wallet's.
    """

    wallet: CommittedSpend
    budgets: tuple[CommittedSpend, ...]

    def visible_to(self, caller: Caller) -> CommittedSpend | None:
        """Return the one that leaves less of those that this caller may see, or None.

        The wallet is for live keys with the scope `billing`; the budgets are the caller's own.
        """
        sees_wallet = Scope.BILLING in caller.scopes and not caller.test
        spends = [self.wallet, *self.budgets] if sees_wallet else self.budgets
        return min(spends, key=lambda spend: spend.remaining, default=None)


def committed_spends(
    session: Session, account_id: str, placed: Any, currency: str, *, refused: int = 0
) -> CommittedSpends:
    """Return the committed spends after a hold, or after one that the wallet refused.

    `placed` is the row that hold.sql returned; `refused` is what it added to the budgets and will be rolled back, in
    minor units.
    """
    available, held = placed.wallet_available, placed.wallet_held
    if held is None:
        # The hold was refused, or repeated once expired credit was booked.
        wallet = balance(session, account_id)
        available, held = wallet.available, wallet.held
    used = ((placed.budget_total, placed.key_used), (placed.budget_month, placed.project_used))
    budgets = tuple(CommittedSpend(limit, amount - refused, currency) for limit, amount in used if limit is not None)
    return CommittedSpends(CommittedSpend(int(available) + held, held, currency), budgets)


def remember_spends(session: Session, job_id: str, spends: CommittedSpends) -> None:
    """Keep the spends after the hold of a job that this session orders, for the headers of its answer."""
    session.info.setdefault(_REMEMBERED, {})[job_id] = spends


def remembered_spends(session: Session, job_id: str) -> CommittedSpends | None:
    """Return the spends after the hold of a job, or None for a job that an earlier call ordered."""
    spends: CommittedSpends | None = session.info.get(_REMEMBERED, {}).get(job_id)
    return spends
