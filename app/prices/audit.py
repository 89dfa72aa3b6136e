"""Recompute counters of free seconds and promotions, hashes of books and contracts, and the audit log's chain."""

from collections.abc import Callable
from functools import lru_cache

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.audit_log.log import broken_entries
from app.prices.tables import StoredBook, StoredContract
from pricing.book import PriceBook, parse_book
from pricing.contract import Contract, parse_contract
from pricing.schema import BookError

# Each query returns subject, expected value and actual value.
RULES: dict[str, str] = {
    "free_seconds_count_their_reservations": """
        SELECT account_id || ' ' || month, coalesce(r.held, 0) || ' reserved, ' || coalesce(r.used, 0) || ' spent',
               coalesce(f.reserved, 0) || ' reserved, ' || coalesce(f.spent, 0) || ' spent'
        FROM free_uses f FULL JOIN (
            SELECT account_id, month, sum(free) FILTER (WHERE state = 'held') AS held, sum(free_used) AS used
            FROM reservations GROUP BY account_id, month) r USING (account_id, month)
        WHERE coalesce(f.reserved, 0) <> coalesce(r.held, 0) OR coalesce(f.spent, 0) <> coalesce(r.used, 0)""",
    "promotion_counts_its_reservations": """
        SELECT promotion || ' ' || account_id,
               coalesce(r.held, 0) || ' reserved, ' || coalesce(r.used, 0) || ' spent',
               coalesce(p.reserved, 0) || ' reserved, ' || coalesce(p.spent, 0) || ' spent'
        FROM promotion_uses p FULL JOIN (
            SELECT each.key AS promotion, account_id,
                   sum(each.value::bigint) FILTER (WHERE state = 'held') AS held,
                   sum((promotions_used ->> each.key)::bigint) AS used
            FROM reservations CROSS JOIN LATERAL jsonb_each_text(promotions) AS each
            GROUP BY 1, 2) r USING (promotion, account_id)
        WHERE account_id <> ''
          AND (coalesce(p.reserved, 0) <> coalesce(r.held, 0) OR coalesce(p.spent, 0) <> coalesce(r.used, 0))""",
    "promotion_budget_adds_up": """
        SELECT promotion, 'a budget of ' || s.budget, s.room || ' left, ' || coalesce(p.used, 0) || ' used'
        FROM (
            SELECT promotion, max(budget) AS budget, sum(room) AS room FROM promotion_shards GROUP BY 1
        ) AS s LEFT JOIN (
            SELECT promotion, sum(reserved + spent) AS used FROM promotion_uses WHERE account_id <> '' GROUP BY 1
        ) AS p USING (promotion)
        WHERE s.budget <> s.room + coalesce(p.used, 0)""",
}


def audit_prices(session: Session) -> list[AuditFinding]:
    """Return every disagreement; an empty list is a clean one. Reads only."""
    findings = [
        AuditFinding.of_values(rule, *row) for rule, query in RULES.items() for row in session.execute(text(query))
    ]
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
