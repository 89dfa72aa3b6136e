"""The audit finds whatever was bent by hand, in any table that money, promises or papers rest on."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.keys import issue_key
from app.accounts.projects import create_project
from app.clock import now
from app.events.feed import list_events
from app.jobs.tables import Job, ReceiptRow
from app.prices.find import book_by_id
from app.reports.audit import audit_books
from app.wallet.funds import correct, refund, top_up
from pricing.receipt import replay
from tests.ledger_simulation import Line

# Tables that refuse to be bent while their triggers stand; a hand in the database can take those away.
GUARDED = ("transfers", "holds", "wallets", "lot_draws", "receipts", "events", "price_books", "audit_entries")
TWO = [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 3}]


def history(session: Session) -> None:
    """A bit of everything: a paid film, a cancelled, a failed, one that waits; a refund, a correction, a quote."""
    line = Line(session)
    studio = line.open("Studio", membership="studio", credit=50_000)
    project = line.act(lambda: create_project(session, studio.account_id, "Trailer"))
    key = line.act(lambda: issue_key(session, studio.account_id, scopes=["videos"])[0])
    caller = replace(studio, key_id=key.id)
    week = now(session) + timedelta(days=7)
    line.act(
        lambda: top_up(session, studio.account_id, 900, kind="granted", reference="welcome", expires_at=week, reason="")
    )
    quote = line.quote(caller, seconds=50)
    line.order(caller, seconds=50, quote_id=quote.id)
    # Ten free seconds are left of the month's sixty.
    paid = line.order(caller, seconds=50, project=project.id)
    line.work()
    half = line.order(caller, shots=TWO)
    claim = line.start()
    assert claim is not None
    line.make(claim)
    line.cancel(caller, half.id)
    line.work()
    line.order(caller, seconds=3)
    claim = line.start()
    assert claim is not None
    line.fail(claim)
    line.act(lambda: refund(session, paid.id, 100, reference="flicker", reason="flicker"))
    line.act(lambda: correct(session, studio.account_id, -10, reference="slip", reason="a slip"))
    line.order(caller, seconds=4)
    line.quote(line.open("Another", membership="studio"), seconds=5)
    line.check()


def shorter(session: Session) -> None:
    """Rewrite a receipt as a whole, so that it agrees with itself: a film of one second."""
    job = session.query(Job).filter(Job.state == "completed", Job.total > 0).one()
    row = session.get_one(ReceiptRow, job.id)
    content = json.loads(row.body)
    content["delivered"]["seconds"] = "1"
    row.body = replay(json.dumps(content).encode(), book_by_id(session, str(job.pricing["book"])).book).decode()
    session.flush()


def line_of(name: str, amount: str) -> str:
    path = "'{lines," + name + ",amount}'"
    return (
        f"UPDATE receipts SET body = jsonb_set(body::jsonb, {path}, '\"{amount}\"')::text WHERE outcome = 'completed'"
    )


DONE = "SELECT id FROM jobs WHERE state = 'completed'"
ENDS = "('video.completed', 'video.cancelled', 'video.failed')"
BENT: list[tuple[str | Callable[[Session], None], str]] = [
    ("UPDATE lanes SET ready = ready + 1", "lane_counts_its_units"),
    ("DELETE FROM lanes", "lane_counts_its_units"),
    (line_of("0", "62.00"), "receipt_replays"),
    ("UPDATE receipts SET body = replace(body, '\"promotions\":', '\"promotion\":')", "receipt_replays"),
    (shorter, "receipt_replays"),
    ("UPDATE receipts SET total = total - 1 WHERE total > 0", "receipt_equals_capture"),
    ("UPDATE receipts SET list_total = list_total + 1 WHERE total > 0", "receipt_replays"),
    ("UPDATE receipts SET settled_at = settled_at - interval '40 days'", "receipt_replays"),
    ("UPDATE receipts SET pricing_case = '[]'", "receipt_replays"),
    ("DELETE FROM receipts WHERE outcome = 'failed'", "final_job_has_one_receipt"),
    ("UPDATE jobs SET film = jsonb_set(film, '{frames}', '16') WHERE state = 'completed'", "receipt_replays"),
    ("UPDATE jobs SET total = total + 1, price = price WHERE state = 'queued'", "hold_is_of_its_job"),
    (
        "UPDATE jobs SET pricing = jsonb_set(pricing, '{usage,seconds}', '\"1\"') WHERE film IS NOT NULL",
        "receipt_replays",
    ),
    ("UPDATE transfers SET amount = amount + 1 WHERE kind = 'capture'", "captured_hold_has_its_transfer"),
    ("UPDATE transfers SET amount = amount + 1 WHERE kind = 'grant'", "wallet_posted_is_sum_of_transfers"),
    ("DELETE FROM transfers WHERE kind = 'capture'", "captured_hold_has_its_transfer"),
    ("UPDATE transfers SET amount = amount * 100 WHERE kind = 'refund'", "refunds_within_charge"),
    ("UPDATE wallets SET posted = posted + 1", "wallet_posted_is_sum_of_transfers"),
    ("UPDATE wallets SET held = held - 1 WHERE held > 0", "wallet_held_is_sum_of_open_holds"),
    ("UPDATE holds SET state = 'released', resolved_at = now() WHERE state = 'held'", "final_job_has_no_open_hold"),
    (
        "UPDATE holds SET state = 'held', resolved_at = NULL, captured_amount = 0 WHERE state = 'captured'",
        "final_job_has_no_open_hold",
    ),
    ("UPDATE holds SET amount = amount + 1 WHERE state = 'held'", "hold_is_of_its_job"),
    ("UPDATE holds SET key_id = NULL WHERE state = 'held'", "key_budget_counts_its_jobs"),
    (
        "UPDATE credit_lots SET remaining = remaining - 1 WHERE remaining > 0",
        "lot_remaining_is_amount_less_what_left_it",
    ),
    ("UPDATE hold_slices SET used = NULL, refunded = 0", "slices_follow_their_hold"),
    ("UPDATE hold_slices SET refunded = 0 WHERE refunded > 0", "refunds_are_in_their_lots"),
    ("DELETE FROM lot_draws", "lot_remaining_is_amount_less_what_left_it"),
    ("UPDATE budgets SET spent = spent + 1 WHERE scope = 'key'", "key_budget_counts_its_jobs"),
    ("DELETE FROM budgets WHERE scope = 'key'", "key_budget_counts_its_jobs"),
    ("DELETE FROM budgets WHERE scope = 'project'", "project_budget_counts_its_jobs"),
    ("UPDATE free_uses SET spent = 0", "free_seconds_count_their_reservations"),
    ("DELETE FROM free_uses", "free_seconds_count_their_reservations"),
    ("UPDATE reservations SET state = 'held', resolved_at = NULL", "reservation_follows_its_owner"),
    ("UPDATE quotes SET state = 'expired' WHERE state = 'open'", "reservation_follows_its_owner"),
    ("UPDATE quotes SET job_id = 'video_other' WHERE state = 'redeemed'", "redeemed_quote_has_its_job"),
    (f"DELETE FROM events WHERE type IN {ENDS}", "final_job_has_one_terminal_event"),
    (
        "UPDATE events SET body = replace(body, '\"total\":', '\"sum\":') WHERE type = 'video.completed'",
        "terminal_event_tells_the_receipt",
    ),
    ("UPDATE price_books SET toml = replace(toml, '\"0.90\"', '\"0.80\"')", "price_text_has_its_hash"),
    ("UPDATE audit_entries SET facts = '{}' WHERE act = 'book.approved'", "audit_trail_is_unbroken"),
    ("DELETE FROM audit_entries WHERE act = 'book.approved'", "audit_trail_is_unbroken"),
    (f"UPDATE takes SET state = 'running', ended_at = NULL WHERE job_id IN ({DONE})", "no_work_for_ended_jobs"),
    ("UPDATE units SET state = 'running' WHERE state = 'ready'", "running_unit_has_running_take"),
]


def test_the_audit_names_the_broken_rule_of_each_corrupted_row(session: Session) -> None:
    history(session)
    # A table is not altered while a trigger of it waits for the commit.
    session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    for table in GUARDED:
        session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    # What refers to a row would keep it; here the row goes all the same.
    session.execute(text("ALTER TABLE webhook_deliveries DROP CONSTRAINT fk_webhook_deliveries_event_id"))
    missed = []
    for act, rule in BENT:
        bending = session.begin_nested()
        if isinstance(act, str):
            assert session.execute(text(act)).rowcount > 0, act  # type: ignore[attr-defined]
        else:
            act(session)
        session.expire_all()
        rules = {finding.rule for finding in audit_books(session)}
        if rule not in rules:
            missed.append((act, rule, rules))
        bending.rollback()
        session.expire_all()
    assert missed == []
    assert audit_books(session) == []


KEPT = (
    ("UPDATE receipts SET total = total - 1 WHERE total > 0", "a receipt is never changed"),
    ("DELETE FROM receipts", "a receipt is never changed"),
    ("UPDATE events SET body = '{}'", "an event is never changed"),
    ("UPDATE events SET position = 77, type = 'wallet.low' WHERE position IS NULL", "an event is never changed"),
    ("DELETE FROM events", "an event is never changed"),
    ("UPDATE transfers SET reason = 'another'", "a transfer is never changed"),
    ("DELETE FROM transfers", "a transfer is never changed"),
    ("UPDATE holds SET captured_amount = 0 WHERE state = 'captured'", "a hold is resolved once"),
    ("DELETE FROM holds", "a hold is resolved once"),
    ("UPDATE lot_draws SET amount = amount + 1", "what left a credit lot"),
    ("DELETE FROM lot_draws", "what left a credit lot"),
    ("DELETE FROM audit_entries", "only ever added to"),
    ("UPDATE audit_entries SET actor = 'nobody'", "only ever added to"),
    ("UPDATE events SET position = position + 1 WHERE position IS NOT NULL", "its place in the feed is written"),
)


def test_the_database_refuses_changes_to_what_was_charged_and_reported(session: Session) -> None:
    history(session)
    for statement, words in KEPT:
        if "IS NOT NULL" in statement:
            # The feed places events when it is first read.
            list_events(session, session.query(Job.account_id).distinct().scalar())
        with pytest.raises(IntegrityError, match=words), session.begin_nested():
            session.execute(text(statement))
