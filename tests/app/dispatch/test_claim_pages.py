"""A claim costs what the waiting accounts cost, not what the past or the length of the queue would."""

import json
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.claim import CLAIM_SQL
from tests.makers import make_account, make_queued_job

ACCOUNTS = 5
INPUTS: dict[str, Any] = {"pool": "demo", "affinity": 120, "resident": "demo"}


def pages(session: Session) -> int:
    """The pages that one claim touches, hit or read, after vacuum has marked the visible ones."""
    plan = session.execute(
        text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {CLAIM_SQL.text}"), {**INPUTS, "now": now(session)}
    )
    top = plan.scalar_one()
    top = json.loads(top) if isinstance(top, str) else top
    return int(top[0]["Plan"]["Shared Hit Blocks"]) + int(top[0]["Plan"]["Shared Read Blocks"])


def grow(session: Session, accounts: list[str], *, past: int, waiting: int) -> None:
    """Add so many done and waiting units, spread over the accounts. Only the dispatcher's rows are needed here."""
    session.execute(text("SET LOCAL session_replication_role = replica"))
    row = """
        INSERT INTO units (id, job_id, account_id, kind, pool, model, state, class, shot, position, frames, estimate,
                           queued_at, takes_lost, takes_error)
        SELECT :tag || n, :tag || n, (CAST(:accounts AS text[]))[1 + n % :many], 'segment', 'demo', 'demo', :state, 1,
               0, 0, 16, 2, now() + n * interval '1 ms', 0, 0
        FROM generate_series(1, :count) AS n
    """
    for tag, state, count in (("past", "done", past), ("wait", "ready", waiting)):
        values = {"tag": f"{tag}-{count}-", "state": state, "count": count, "accounts": accounts, "many": len(accounts)}
        session.execute(text(row), values)
    session.commit()
    with session.get_bind().engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:  # type: ignore[union-attr]
        connection.execute(text("VACUUM ANALYZE units"))


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_a_million_past_and_a_hundred_thousand_waiting_jobs_cost_a_claim_no_more_pages(
    database_url: str, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = [make_account(session, f"Account {n}").id for n in range(ACCOUNTS)]
    for account in accounts:
        make_queued_job(session, account)
    session.commit()
    grow(session, accounts, past=1_000, waiting=1_000)
    small = pages(session)
    session.rollback()
    grow(session, accounts, past=1_000_000, waiting=100_000)
    large = pages(session)
    with capsys.disabled():
        print(f"\npages of a claim: {small} with 1,000 jobs, {large} with 1,100,000 (ratio {large / small:.2f})")
    # An index that is one level deeper costs one page more per descent; more than that would be a scan.
    assert large <= 1.2 * small + ACCOUNTS * 4
