"""Recompute counters of free seconds and promotions, hashes of books and contracts, and the audit log's chain."""

from collections.abc import Callable
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.audit_log.verify import broken_entries
from app.audit_sums import EVERYTHING, AuditScope, AuditSum, run_rules
from app.prices.tables import StoredBook, StoredContract
from pricing.book import PriceBook, parse_book
from pricing.contract import Contract, parse_contract
from pricing.schema import BookError

_FREE, _PROMOTION = "account_id || ' ' || month", "each.key || ' ' || account_id"
_PROMOTIONS = "reservations CROSS JOIN LATERAL jsonb_each_text(promotions) AS each"
_GIVEN = "coalesce((promotions_used ->> each.key)::bigint, 0)"
FREE = AuditSum(
    "free",
    f"""
    SELECT {_FREE} AS subject, sum(free_used) AS amount FROM reservations
    WHERE resolved_at >= :since AND resolved_at < :until GROUP BY 1""",
)
DISCOUNTS = AuditSum(
    "promotion",
    f"""
    SELECT {_PROMOTION} AS subject, sum({_GIVEN}) AS amount FROM {_PROMOTIONS}
    WHERE resolved_at >= :since AND resolved_at < :until GROUP BY 1""",
)
SUMS = (FREE, DISCOUNTS)

# What reservations set aside and have used, beside the counter; a counter that is missing counts nothing.
_COUNTED = """
    SELECT subject, coalesce(r.held, 0) || ' reserved, ' || coalesce(r.used, 0) || ' spent',
           coalesce(c.reserved, 0) || ' reserved, ' || coalesce(c.spent, 0) || ' spent'
    FROM (SELECT {counter} AS subject, reserved, spent FROM {table}) c FULL JOIN (
        SELECT subject, sum(held) AS held, sum(used) AS used FROM (
            SELECT {subject} AS subject, {held} AS held, {used} AS used FROM {rows} WHERE resolved_at IS NULL
            UNION ALL SELECT subject, 0, total FROM ({sum.total}) AS resolved
        ) AS parts GROUP BY subject) r USING (subject)
    WHERE (coalesce(c.reserved, 0) <> coalesce(r.held, 0) OR coalesce(c.spent, 0) <> coalesce(r.used, 0))"""

# Each query returns subject, expected value and actual value.
RULES: dict[str, str] = {
    "free_seconds_count_their_reservations": _COUNTED.format(
        counter=_FREE, table="free_uses", subject=_FREE, held="free", used="free_used", rows="reservations", sum=FREE
    ),
    "promotion_counts_its_reservations": _COUNTED.format(
        counter="promotion || ' ' || account_id",
        table="promotion_uses WHERE account_id <> ''",
        subject=_PROMOTION,
        held="each.value::bigint",
        used=_GIVEN,
        rows=_PROMOTIONS,
        sum=DISCOUNTS,
    )
    # Months that were sealed before have sums of all accounts together, whose subjects name no account.
    + " AND subject NOT LIKE '% '",
    "promotion_budget_adds_up": """
        SELECT promotion, 'a budget of ' || s.budget, s.room || ' left, ' || coalesce(p.used, 0) || ' used'
        FROM (
            SELECT promotion, max(budget) AS budget, sum(room) AS room FROM promotion_shards GROUP BY 1
        ) AS s LEFT JOIN (
            SELECT promotion, sum(reserved + spent) AS used FROM promotion_uses WHERE account_id <> '' GROUP BY 1
        ) AS p USING (promotion)
        WHERE s.budget <> s.room + coalesce(p.used, 0)""",
}


def audit_prices(session: Session, scope: AuditScope = EVERYTHING) -> list[AuditFinding]:
    """Return every disagreement; an empty list is a clean one. Reads only."""
    findings = run_rules(session, RULES, scope)
    for table, parse in ((StoredBook, parse_book), (StoredContract, parse_contract)):
        for document_id, recorded, toml in session.execute(select(table.id, table.content_hash, table.toml)):
            # Parsed from the text itself, not looked up in the cache by its hash, so that a rewritten text shows.
            actual = _hash_of(parse, toml)
            if recorded != actual:
                findings.append(AuditFinding.of_values("price_text_has_its_hash", document_id, recorded, actual))
    findings += [
        AuditFinding.of_values("audit_trail_is_unbroken", number, "sealed with the entry before it", "not")
        for number in broken_entries(session)
    ]
    return findings


@lru_cache(maxsize=256)
def _hash_of(parse: Callable[[str], PriceBook | Contract], toml: str) -> str:
    try:
        return parse(toml).content_hash
    except BookError as error:
        return f"unreadable: {error.problems[0]}"
