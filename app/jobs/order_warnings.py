"""Warnings about an order: what was ignored, or decided otherwise than asked. They refuse nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Where a job's resolved facts keep them.
KEY = "order_warnings"
# The caller chooses the names of unknown fields, and how many there are.
WARNINGS_MAX = 20
FIELD_LENGTH_MAX = 100


@dataclass(frozen=True)
class OrderWarning:
    """One warning: `ignored`, `set_by_model` or `default_used`, a sentence, and the field in the caller's words."""

    code: str
    message: str
    field: str

    def as_dict(self) -> dict[str, str]:
        """Return the warning as JSON."""
        return {"code": self.code, "message": self.message, "field": self.field}


def with_order_warnings(resolved: Mapping[str, Any], warnings: Sequence[OrderWarning]) -> dict[str, Any]:
    """Return resolved facts with these warnings, or the first of many."""
    return {**resolved, KEY: [each.as_dict() for each in warnings[:WARNINGS_MAX]]} if warnings else dict(resolved)


def order_warnings(resolved: Mapping[str, Any]) -> list[OrderWarning]:
    """Return the warnings that resolved facts keep."""
    return [OrderWarning(**each) for each in resolved.get(KEY, ())]
