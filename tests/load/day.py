"""What a day by a virtual clock measured."""

from collections import defaultdict
from dataclasses import dataclass, field

from tests.load.demand import Customer


@dataclass
class Day:
    """What a virtual day measured: seconds are those of its clock."""

    customers: list[Customer]
    jobs: int = 0
    seconds: float = 0.0
    refused: int = 0
    crashes: int = 0
    lost_ends: int = 0
    busy_seconds: float = 0.0
    # Of each account: its waiting segments, the seconds in which it had some, and the GPU-seconds that it began then.
    waiting: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    waiting_since: dict[str, float] = field(default_factory=dict)
    waiting_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    served: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def changes(self, account_id: str, at: float, by: int) -> None:
        """Count `by` more segments that wait for an account."""
        before = self.waiting[account_id]
        after = self.waiting[account_id] = max(0, before + by)
        if after and not before:
            self.waiting_since[account_id] = at
        if before and not after:
            self.waiting_seconds[account_id] += at - self.waiting_since.pop(account_id)

    def rates(self, *, seconds_min: float) -> list[float]:
        """Return the GPU-seconds by weight that each account began in each second in which it had work waiting.

        Left out are accounts that waited for less than `seconds_min` in all: they had what they asked for.
        """
        weights = {each.account_id: each.weight for each in self.customers}
        return [
            self.served[account] / weights[account] / seconds
            for account, seconds in self.waiting_seconds.items()
            if seconds >= seconds_min
        ]
