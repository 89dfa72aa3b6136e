"""Sums of the whole life of a subject, that an audit does not read again: sealed months are in `sealed_sums`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding

# The beginning of time, for an audit that leaves nothing out, and its end.
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AuditSum:
    """What rows that never change again come to, by subject.

    `rows` is a query of `subject` and `amount` over the rows from `:since` up to, and not including, `:until`. A month
    that is sealed adds its rows to the table `sealed_sums` under `kind`.
    """

    kind: str
    rows: str

    @property
    def total(self) -> str:
        """The query of `subject` and `total`: what is sealed, if `:sealed`, and the rows from `:since` on."""
        return f"""
            SELECT subject, sum(amount) AS total FROM (
                SELECT subject, amount FROM sealed_sums WHERE kind = '{self.kind}' AND :sealed
                UNION ALL SELECT subject, amount FROM ({self.rows}) AS later
            ) AS parts GROUP BY subject"""


@dataclass(frozen=True, slots=True)
class AuditScope:
    """What an audit reads: rows from `since` on, with `sealed` sums of the rows before it; `now` is its moment."""

    since: datetime = ALWAYS
    sealed: bool = False

    def facts(self, query: str, **more: Any) -> Mapping[str, Any]:
        """Return those values that a query names."""
        values = {"since": self.since, "until": NEVER, "sealed": self.sealed, **more}
        return {name: value for name, value in values.items() if f":{name}" in query}


# The audit that reads every row.
EVERYTHING = AuditScope()


def run_rules(session: Session, rules: Mapping[str, str], scope: AuditScope, **more: Any) -> list[AuditFinding]:
    """Return a finding for each row that these queries return: subject, expected value, actual value."""
    return [
        AuditFinding.of_values(rule, *row)
        for rule, query in rules.items()
        for row in session.execute(text(query), scope.facts(query, **more))
    ]
