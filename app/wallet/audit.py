"""Recompute every wallet from its transfers, holds and lots, and name the rows that disagree.

The invariants are those of a ledger: balances are the sums of what moved, holds resolve once and within their amount,
lots lose nothing, budgets count what was held and captured. Each rule is one query that returns disagreements only.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.clock import now

# What the holds of a key (all its life, under whatever key it was rotated to) or of a project (in one month) come to,
# beside their counter; a counter that is missing counts nothing.
_BUDGETS = """
    SELECT coalesce(b.id, subject_id || ' ' || month),
           coalesce(u.held, 0) || ' held, ' || coalesce(u.spent, 0) || ' spent',
           coalesce(b.held, 0) || ' held, ' || coalesce(b.spent, 0) || ' spent'
    FROM (SELECT * FROM budgets WHERE scope = '{scope}') b FULL JOIN (
        SELECT {subject} AS subject_id, {month} AS month, sum(h.amount) FILTER (WHERE h.state = 'held') AS held,
               sum(h.captured_amount - coalesce(r.given, 0)) AS spent
        FROM holds h LEFT JOIN api_keys k ON k.id = h.key_id LEFT JOIN (
            SELECT job_id, sum(amount) AS given FROM transfers WHERE kind = 'refund' GROUP BY 1) r USING (job_id)
        WHERE {subject} IS NOT NULL GROUP BY 1, 2) u USING (subject_id, month)
    WHERE coalesce(b.held, 0) <> coalesce(u.held, 0) OR coalesce(b.spent, 0) <> coalesce(u.spent, 0)"""

# Each query returns subject, expected value and actual value. `:now` is the moment of the audit.
RULES: dict[str, str] = {
    "wallet_posted_is_sum_of_transfers": """
        SELECT w.account_id, coalesce(t.total, 0), w.posted FROM wallets w LEFT JOIN (
            SELECT account_id, sum(CASE WHEN credit = 'wallet:' || account_id THEN amount ELSE -amount END) AS total
            FROM transfers GROUP BY account_id) t USING (account_id)
        WHERE w.posted <> coalesce(t.total, 0)""",
    "wallet_held_is_sum_of_open_holds": """
        SELECT w.account_id, coalesce(h.total, 0), w.held FROM wallets w LEFT JOIN (
            SELECT account_id, sum(amount) AS total FROM holds WHERE state = 'held' GROUP BY account_id) h
            USING (account_id)
        WHERE w.held <> coalesce(h.total, 0)""",
    "transfer_is_in_wallet_currency": """
        SELECT t.id, w.currency, t.currency FROM transfers t JOIN wallets w USING (account_id)
        WHERE t.currency <> w.currency""",
    "captured_hold_has_its_transfer": """
        SELECT coalesce(h.job_id, t.job_id), coalesce(h.captured_amount, 0), coalesce(t.amount, 0)
        FROM holds h FULL JOIN (SELECT * FROM transfers WHERE kind = 'capture') t
            ON t.job_id = h.job_id AND t.account_id = h.account_id
        WHERE coalesce(h.captured_amount, 0) <> coalesce(t.amount, 0)""",
    "refunds_within_charge": """
        SELECT t.job_id, h.captured_amount, sum(t.amount) FROM transfers t LEFT JOIN holds h USING (job_id)
        WHERE t.kind = 'refund' GROUP BY t.job_id, h.captured_amount
        HAVING sum(t.amount) > coalesce(h.captured_amount, 0)""",
    "incoming_transfer_has_its_lot": """
        SELECT t.id, t.amount, coalesce(l.amount, 0) FROM transfers t LEFT JOIN credit_lots l ON l.transfer_id = t.id
        WHERE t.credit = 'wallet:' || t.account_id AND t.kind <> 'refund' AND coalesce(l.amount, 0) <> t.amount""",
    # A refund goes back into the lots that its charge was taken from, and into new ones for what credit had covered.
    "refunds_are_in_their_lots": """
        SELECT job_id, coalesce(t.total, 0), coalesce(s.total, 0) + coalesce(l.total, 0)
        FROM (SELECT job_id, sum(amount) AS total FROM transfers WHERE kind = 'refund' GROUP BY 1) t
        FULL JOIN (SELECT h.job_id, sum(s.refunded) AS total FROM hold_slices s JOIN holds h ON h.id = s.hold_id
            WHERE s.refunded > 0 GROUP BY 1) s USING (job_id)
        FULL JOIN (SELECT t.job_id, sum(l.amount) AS total FROM credit_lots l JOIN transfers t ON t.id = l.transfer_id
            WHERE t.kind = 'refund' GROUP BY 1) l USING (job_id)
        WHERE coalesce(t.total, 0) <> coalesce(s.total, 0) + coalesce(l.total, 0)""",
    "lot_remaining_is_amount_less_what_left_it": """
        SELECT l.id, l.amount - coalesce(s.gone, 0) - coalesce(d.gone, 0), l.remaining FROM credit_lots l LEFT JOIN (
            SELECT lot_id, sum(coalesce(used, amount) - refunded) AS gone FROM hold_slices GROUP BY lot_id) s
            ON s.lot_id = l.id
        LEFT JOIN (SELECT lot_id, sum(amount) AS gone FROM lot_draws GROUP BY lot_id) d ON d.lot_id = l.id
        WHERE l.remaining <> l.amount - coalesce(s.gone, 0) - coalesce(d.gone, 0)""",
    "slices_follow_their_hold": """
        SELECT h.id, h.state || ' ' || (CASE h.state WHEN 'held' THEN h.amount ELSE h.captured_amount END),
               sum(coalesce(s.used, s.amount)) || ' in ' || count(*) || ' slices'
        FROM holds h JOIN hold_slices s ON s.hold_id = h.id GROUP BY h.id
        HAVING bool_or((h.state = 'held') <> (s.used IS NULL))
            OR sum(coalesce(s.used, s.amount)) > CASE h.state WHEN 'held' THEN h.amount ELSE h.captured_amount END""",
    # More by what is owed, which nobody does while they have credit.
    "lots_hold_what_is_posted": """
        SELECT w.account_id, w.posted, l.free + p.pinned FROM wallets w,
            LATERAL (SELECT coalesce(sum(remaining), 0) AS free,
                coalesce(sum(remaining) FILTER (WHERE expires_at IS NULL OR expires_at > :now), 0) AS live
                FROM credit_lots WHERE account_id = w.account_id) l,
            LATERAL (SELECT coalesce(sum(s.amount), 0) AS pinned FROM hold_slices s JOIN holds h ON h.id = s.hold_id
                WHERE h.account_id = w.account_id AND h.state = 'held') p
        WHERE l.free + p.pinned < w.posted OR (l.free + p.pinned > w.posted AND l.live > 0)""",
    "key_budget_counts_its_jobs": _BUDGETS.format(scope="key", subject="k.lineage", month="''"),
    "project_budget_counts_its_jobs": _BUDGETS.format(scope="project", subject="h.project_id", month="h.month"),
}


def audit_wallet(session: Session) -> list[AuditFinding]:
    """Return every disagreement in the ledger; an empty list is a clean one. Reads only.

    A run beside live traffic wants a REPEATABLE READ transaction, so that all rules see one moment.
    """
    facts = {"now": now(session)}
    return [
        AuditFinding.of_values(rule, *row)
        for rule, query in RULES.items()
        for row in session.execute(text(query), facts if ":now" in query else {})
    ]
