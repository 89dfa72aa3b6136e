"""The one order in which a transaction locks what others lock too, so that no two transactions wait for each other.

A transaction may skip steps; it never goes back. The reasons are in deploy/decisions/0111-one-order-of-locks.md, and
`tests/app/jobs/test_lock_order.py` compares the statements of every verb with this list.
"""

LOCK_ORDER = (
    "claims of a pool",  # advisory: one claim of a pool at a time
    "submissions of an account",  # advisory: one order of an account at a time, or one quote
    "quote",
    "job",  # covers its takes and units: whoever changes several of them, or waits afterwards, holds the job
    "segments of an account",  # advisory: one claim of an account in all pools
    "shares",  # of one account, by the names of their pools
    "lanes",  # changed by triggers on units, and covered by the share of their account and pool
    "inputs",  # uploaded files of the order, by their ids
    "group",  # of the jobs that one call ordered; the last of them to end ends it
    "reservation",
    "free seconds",
    "promotions of an account",  # by their names, as the next
    "budgets of promotions",  # a shard that nobody has locked, or all of them by their numbers
    "hold",
    "budgets",  # of the key, then of the project
    "wallet",  # covers its credit lots
    "refusal counts",  # of an account, by their scopes and days
    "order stops",  # of a project, then of the account
    "audit log",  # advisory, and one for the whole service
)
