"""Recompute every wallet from its transfers, holds and lots, and name the rows that disagree.

The invariants are those of a ledger: balances are the sums of what moved, holds resolve once and within their amount,
lots lose nothing, budgets count what was held and captured. Each rule is one query that returns disagreements only.
Rows of sealed months are not read: rules about one row leave them out, and sums have them in `sealed_sums`.
"""

from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.audit_sums import EVERYTHING, AuditScope, AuditSum, run_rules
from app.clock import now

POSTED = AuditSum(
    "posted",
    """
    SELECT account_id AS subject, sum(CASE WHEN credit = 'wallet:' || account_id THEN amount ELSE -amount END) AS amount
    FROM transfers WHERE at >= :since AND at < :until GROUP BY 1""",
)
# What resolved holds took from a lot. What refunds put back is not in it.
USED = AuditSum(
    "used",
    """
    SELECT s.lot_id AS subject, sum(coalesce(s.used, s.amount)) AS amount
    FROM holds h JOIN hold_slices s ON s.hold_id = h.id
    WHERE h.resolved_at >= :since AND h.resolved_at < :until GROUP BY 1""",
)
# What a key (all its life, under whatever key it was rotated to) or a project (in one month) has spent.
_SPENT = """
    SELECT {subject} AS subject, sum(amount) AS amount FROM (
        SELECT key_id, project_id, month, captured_amount AS amount FROM holds
        WHERE resolved_at >= :since AND resolved_at < :until
        UNION ALL SELECT r.key_id, r.project_id, r.month, -t.amount
        FROM transfers t JOIN holds r ON r.job_id = t.job_id
        WHERE t.kind = 'refund' AND t.at >= :since AND t.at < :until
    ) h LEFT JOIN api_keys k ON k.id = h.key_id WHERE {subject} IS NOT NULL GROUP BY 1"""
_KEY, _PROJECT = "k.lineage || ' '", "h.project_id || ' ' || h.month"
SPENT_BY_KEY = AuditSum("key", _SPENT.format(subject=_KEY))
SPENT_BY_PROJECT = AuditSum("project", _SPENT.format(subject=_PROJECT))
SUMS = (POSTED, USED, SPENT_BY_KEY, SPENT_BY_PROJECT)

# What is held and spent, beside the counter; a counter that is missing counts nothing.
_BUDGETS = """
    SELECT coalesce(b.id, subject), coalesce(u.held, 0) || ' held, ' || coalesce(u.spent, 0) || ' spent',
           coalesce(b.held, 0) || ' held, ' || coalesce(b.spent, 0) || ' spent'
    FROM (SELECT *, subject_id || ' ' || month AS subject FROM budgets WHERE scope = '{sum.kind}') b FULL JOIN (
        SELECT subject, sum(held) AS held, sum(spent) AS spent FROM (
            SELECT {subject} AS subject, h.amount AS held, h.captured_amount AS spent
            FROM holds h LEFT JOIN api_keys k ON k.id = h.key_id WHERE h.state = 'held' AND {subject} IS NOT NULL
            UNION ALL SELECT subject, 0, total FROM ({sum.total}) AS resolved
        ) AS parts GROUP BY subject) u USING (subject)
    WHERE coalesce(b.held, 0) <> coalesce(u.held, 0) OR coalesce(b.spent, 0) <> coalesce(u.spent, 0)"""

# Each query returns subject, expected value and actual value. `:now` is the moment of the audit.
RULES: dict[str, str] = {
    "wallet_posted_is_sum_of_transfers": f"""
        SELECT w.account_id, coalesce(t.total, 0), w.posted
        FROM wallets w LEFT JOIN ({POSTED.total}) t ON t.subject = w.account_id
        WHERE w.posted <> coalesce(t.total, 0)""",
    "wallet_held_is_sum_of_open_holds": """
        SELECT w.account_id, coalesce(h.total, 0), w.held FROM wallets w LEFT JOIN (
            SELECT account_id, sum(amount) AS total FROM holds WHERE state = 'held' GROUP BY account_id) h
            USING (account_id)
        WHERE w.held <> coalesce(h.total, 0)""",
    "transfer_is_in_wallet_currency": """
        SELECT t.id, w.currency, t.currency FROM transfers t JOIN wallets w USING (account_id)
        WHERE t.currency <> w.currency AND t.at >= :since""",
    "captured_hold_has_its_transfer": """
        SELECT coalesce(h.job_id, t.job_id), coalesce(h.captured_amount, 0), coalesce(t.amount, 0)
        FROM (SELECT * FROM holds WHERE resolved_at >= :since) h
        FULL JOIN (SELECT * FROM transfers WHERE kind = 'capture' AND at >= :since) t
            ON t.job_id = h.job_id AND t.account_id = h.account_id
        WHERE coalesce(h.captured_amount, 0) <> coalesce(t.amount, 0)""",
    "refunds_within_charge": """
        SELECT t.job_id, h.captured_amount, sum(t.amount) FROM transfers t LEFT JOIN holds h USING (job_id)
        WHERE t.kind = 'refund' GROUP BY t.job_id, h.captured_amount
        HAVING sum(t.amount) > coalesce(h.captured_amount, 0)""",
    "incoming_transfer_has_its_lot": """
        SELECT t.id, t.amount, coalesce(l.amount, 0) FROM transfers t LEFT JOIN credit_lots l ON l.transfer_id = t.id
        WHERE t.credit = 'wallet:' || t.account_id AND t.kind <> 'refund' AND coalesce(l.amount, 0) <> t.amount
            AND t.at >= :since""",
    # A refund goes back into the lots that its charge was taken from, and into new ones for what credit had covered.
    # Refunds of all time are read, which are few: one may be of an old film.
    "refunds_are_in_their_lots": """
        SELECT job_id, coalesce(t.total, 0), coalesce(s.total, 0) + coalesce(l.total, 0)
        FROM (SELECT job_id, sum(amount) AS total FROM transfers WHERE kind = 'refund' GROUP BY 1) t
        FULL JOIN (SELECT h.job_id, sum(s.refunded) AS total FROM hold_slices s JOIN holds h ON h.id = s.hold_id
            WHERE s.refunded > 0 GROUP BY 1) s USING (job_id)
        FULL JOIN (SELECT t.job_id, sum(l.amount) AS total FROM credit_lots l JOIN transfers t ON t.id = l.transfer_id
            WHERE t.kind = 'refund' GROUP BY 1) l USING (job_id)
        WHERE coalesce(t.total, 0) <> coalesce(s.total, 0) + coalesce(l.total, 0)""",
    "lot_remaining_is_amount_less_what_left_it": f"""
        SELECT * FROM (
            SELECT l.id, l.amount - coalesce(u.total, 0) - coalesce(p.pinned, 0) + coalesce(r.refunded, 0)
                - coalesce(d.gone, 0) AS expected, l.remaining
            FROM credit_lots l LEFT JOIN ({USED.total}) u ON u.subject = l.id
            LEFT JOIN (SELECT s.lot_id, sum(coalesce(s.used, s.amount)) AS pinned
                FROM holds h JOIN hold_slices s ON s.hold_id = h.id WHERE h.state = 'held' GROUP BY 1) p
                ON p.lot_id = l.id
            LEFT JOIN (SELECT lot_id, sum(refunded) AS refunded FROM hold_slices WHERE refunded > 0 GROUP BY 1) r
                ON r.lot_id = l.id
            LEFT JOIN (SELECT lot_id, sum(amount) AS gone FROM lot_draws GROUP BY lot_id) d ON d.lot_id = l.id
        ) AS lots WHERE remaining <> expected""",
    "slices_follow_their_hold": """
        SELECT h.id, h.state || ' ' || (CASE h.state WHEN 'held' THEN h.amount ELSE h.captured_amount END),
               sum(coalesce(s.used, s.amount)) || ' in ' || count(*) || ' slices'
        FROM holds h JOIN hold_slices s ON s.hold_id = h.id
        WHERE h.state = 'held' OR h.resolved_at >= :since GROUP BY h.id
        HAVING bool_or((h.state = 'held') <> (s.used IS NULL))
            OR sum(coalesce(s.used, s.amount)) > CASE h.state WHEN 'held' THEN h.amount ELSE h.captured_amount END""",
    # More by what is owed, which nobody does while they have credit.
    "lots_hold_what_is_posted": """
        SELECT w.account_id, w.posted, coalesce(l.free, 0) + coalesce(p.pinned, 0) FROM wallets w
        LEFT JOIN (SELECT account_id, sum(remaining) AS free,
                sum(remaining) FILTER (WHERE expires_at IS NULL OR expires_at > :now) AS live
            FROM credit_lots WHERE remaining > 0 GROUP BY 1) l ON l.account_id = w.account_id
        LEFT JOIN (SELECT h.account_id, sum(s.amount) AS pinned FROM holds h JOIN hold_slices s ON s.hold_id = h.id
            WHERE h.state = 'held' GROUP BY 1) p ON p.account_id = w.account_id
        WHERE coalesce(l.free, 0) + coalesce(p.pinned, 0) < w.posted
            OR (coalesce(l.free, 0) + coalesce(p.pinned, 0) > w.posted AND coalesce(l.live, 0) > 0)""",
    "key_budget_counts_its_jobs": _BUDGETS.format(sum=SPENT_BY_KEY, subject=_KEY),
    "project_budget_counts_its_jobs": _BUDGETS.format(sum=SPENT_BY_PROJECT, subject=_PROJECT),
}


def audit_wallet(session: Session, scope: AuditScope = EVERYTHING) -> list[AuditFinding]:
    """Return every disagreement in the ledger; an empty list is a clean one. Reads only.

    A run beside live traffic wants a REPEATABLE READ transaction, so that all rules see one moment.
    """
    return run_rules(session, RULES, scope, now=now(session))
