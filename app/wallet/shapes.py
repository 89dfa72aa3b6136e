"""What the wallet tells: its balance. Amounts are whole minor units; doors spell them as decimal strings."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Balance(BaseModel):
    """A wallet at one moment. Credit that has expired is left out, whether or not the sweeper has booked it yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account_id: str
    currency: str
    posted: int  # the balance: what came in less what was spent; below zero when credit is in use
    held: int
    credit_limit: int
    available: int  # posted - held + credit limit: what a new hold may take
    granted: int  # what is left in granted lots and not pinned by a hold
    purchased: int
    next_expiry_at: datetime | None
    next_expiry_amount: int
    low_balance: int | None  # the owner is told when available falls below this
