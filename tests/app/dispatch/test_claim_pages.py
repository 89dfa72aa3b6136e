"""A claim costs what the waiting accounts cost, not what the past or the length of the queue would."""

import json
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.choice import CLAIM_SQL, choice_inputs
from app.dispatch.worker_registry import Claimant
from app.jobs.queue_tables import Share
from tests.factories import make_account, make_queued_job

ACCOUNTS = 5
# With the head's own model on the GPU, and with another.
RESIDENTS = ("demo", "another")


def pages(session: Session, resident: str) -> int:
    """The pages that one claim touches, hit or read, after vacuum has marked the visible ones."""
    # Half of what waits is older than the rest and does not fit this worker.
    inputs = choice_inputs("demo", resident, now(session), worker=Claimant(memory_mb=24_000, features=[]))
    plan = session.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {CLAIM_SQL.text}"), inputs)
    top = plan.scalar_one()
    top = json.loads(top) if isinstance(top, str) else top
    return int(top[0]["Plan"]["Shared Hit Blocks"]) + int(top[0]["Plan"]["Shared Read Blocks"])


def grow(session: Session, accounts: list[str], *, past: int, waiting: int) -> None:
    """Add so many done and waiting units, spread over the accounts. Only the dispatcher's rows are needed here."""
    session.execute(text("SET LOCAL session_replication_role = replica"))
    row = """
        INSERT INTO units (id, job_id, account_id, kind, pool, model, state, class, shot, position, frames, estimate,
                           memory_mb, queued_at, takes_lost, takes_error)
        SELECT :tag || n, :tag || n, (CAST(:accounts AS text[]))[1 + n % :many], 'segment', 'demo', 'demo', :state, 1,
               0, 0, 16, 2, CASE WHEN 2 * n <= :count THEN 48000 ELSE 0 END, now() + n * interval '1 ms', 0, 0
        FROM generate_series(1, :count) AS n
    """
    for tag, state, count in (("past", "done", past), ("wait", "ready", waiting)):
        values = {"tag": f"{tag}-{count}-", "state": state, "count": count, "accounts": accounts, "many": len(accounts)}
        session.execute(text(row), values)
    # What the triggers on units, which slept meanwhile, would have counted.
    session.execute(text("DELETE FROM lanes"))
    session.execute(
        text(
            "INSERT INTO lanes (pool, class, account_id, model, memory_mb, ready)"
            " SELECT pool, class, account_id, model, memory_mb, count(*) FROM units WHERE state = 'ready'"
            " GROUP BY pool, class, account_id, model, memory_mb"
        )
    )
    session.commit()
    with session.get_bind().engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:  # type: ignore[union-attr]
        connection.execute(text("VACUUM ANALYZE units, lanes"))


@pytest.mark.new_database
@pytest.mark.deep
@pytest.mark.timeout(900)
def test_a_million_past_and_a_hundred_thousand_waiting_jobs_cost_a_claim_no_more_pages(
    database_url: str, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = [make_account(session, f"Account {n}").id for n in range(ACCOUNTS)]
    for account in accounts:
        make_queued_job(session, account)
    session.flush()
    # Accounts that have been served differ in their virtual times; only equals are looked into one by one.
    for number, account in enumerate(accounts):
        session.get_one(Share, ("demo", account)).vtime = Decimal(number)
    session.commit()
    grow(session, accounts, past=1_000, waiting=1_000)
    small = {resident: pages(session, resident) for resident in RESIDENTS}
    session.rollback()
    grow(session, accounts, past=1_000_000, waiting=100_000)
    large = {resident: pages(session, resident) for resident in RESIDENTS}
    with capsys.disabled():
        for resident in RESIDENTS:
            ratio = large[resident] / small[resident]
            print(f"\n{resident} on the GPU: a claim touches {small[resident]} pages with 1,000 jobs", end=", ")
            print(f"{large[resident]} with 1,100,000 (ratio {ratio:.2f})")
    assert all(large[resident] <= 1.2 * small[resident] for resident in RESIDENTS)
