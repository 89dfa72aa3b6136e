"""What an erasure of an account changes, step by step. Each step may be repeated, and goes on after a crash."""

from collections.abc import Callable, Iterator
from datetime import datetime

from app.audit_sums import ALWAYS
from app.clock import now
from app.db import transaction
from app.erasure.audit_entries import account_entries, erase_entries
from app.erasure.batches import BATCH, key_pages, repeat, run_statements
from app.storage import get_storage

# What a step does for a subject of an erasure: it yields how many rows or files each batch had.
Action = Callable[[str, str], Iterator[int]]

_FILMS_BATCH = 20
_BEGIN = (ALWAYS.isoformat(), "")


def _without_words(column: str) -> str:
    """Return SQL for a Spec without what people wrote: prompts and the style line."""
    shots = f"""(SELECT jsonb_agg(shot || '{{"prompt": "", "negative_prompt": ""}}' ORDER BY number)
        FROM jsonb_array_elements({column} -> 'shots') WITH ORDINALITY AS each(shot, number))"""
    return f"({column} - 'style') || jsonb_build_object('shots', coalesce({shots}, '[]'))"


_JOB = (
    f"""
    UPDATE jobs SET prompt = '', spec = {_without_words("spec")}, spec_hash = '', metadata = '{{}}', resolved = '{{}}',
        callback_url = NULL, error_message = NULL, traceparent = NULL, request_id = NULL,
        deleted_at = coalesce(deleted_at, :now), files_expire_at = coalesce(files_expire_at, :now),
        files_removed_at = coalesce(files_removed_at, :now)
    WHERE id = ANY(:ids)""",
    """
    UPDATE backfill_claims SET state = 'skipped', reason = 'erased' WHERE film_id = ANY(:ids) AND state = 'running'""",
    "UPDATE takes SET error_message = NULL WHERE job_id = ANY(:ids) AND error_message IS NOT NULL",
    "DELETE FROM job_metadata WHERE job_id = ANY(:ids)",
    "DELETE FROM film_labels WHERE job_id = ANY(:ids)",
    "DELETE FROM share_links WHERE job_id = ANY(:ids)",
    "DELETE FROM quarantined_films WHERE job_id = ANY(:ids)",
    "DELETE FROM submissions WHERE job_id = ANY(:ids)",
)


def _films(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove what the rows of all films say of people, then delete the files of films and takes, with their versions.

    The rows go first: a backfill that runs finds them changed, and purges the file that it has stored.
    """
    query = """
        SELECT created_at, id FROM jobs
        WHERE account_id = :subject AND (created_at, id) > (CAST(:k0 AS timestamptz), :k1) ORDER BY created_at, id"""
    storage = get_storage()
    for page in key_pages(query, account_id, first=_BEGIN, size=_FILMS_BATCH):
        ids = [row.id for row in page]
        run_statements(_JOB, ids=ids, now=_moment())
        for job_id in ids:
            storage.purge(f"films/{job_id}/")
            storage.purge(f"takes/{job_id}/")
            storage.purge(f"quarantine/{job_id}/")
        yield len(ids)


def _uploads(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Delete the files of all uploads, with their versions, then what their rows say of them."""
    storage = get_storage()
    for folder in ("assets", "uploads"):
        storage.purge(f"{folder}/{account_id}/")
    query = "SELECT id FROM assets WHERE account_id = :subject AND id > :k0 ORDER BY id"
    statement = """
        UPDATE assets SET state = 'deleted', refused_reason = NULL, filename = '', key = NULL, sha256 = NULL,
            source_sha256 = NULL, marks = NULL, declaration = NULL, expires_at = coalesce(expires_at, :now)
        WHERE id = ANY(:ids)"""
    for page in key_pages(query, account_id, first=("",)):
        yield run_statements([statement], ids=[row.id for row in page], now=_moment())


def _orders(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove the words of quotes, and the addresses of groups."""
    query = "SELECT id FROM quotes WHERE account_id = :subject AND id > :k0 ORDER BY id"
    statement = f"""
        UPDATE quotes SET spec = {_without_words("spec")}, spec_hash = '', body = '{{}}' WHERE id = ANY(:ids)"""
    for page in key_pages(query, account_id, first=("",), size=10 * BATCH):
        yield run_statements([statement], ids=[row.id for row in page])
    yield run_statements(
        [
            """
            UPDATE job_groups SET callback_url = NULL, traceparent = NULL, request_id = NULL
            WHERE account_id = :subject AND num_nonnulls(callback_url, traceparent, request_id) > 0"""
        ],
        subject=account_id,
    )


# What stays of an event: its envelope, its subject and the receipt, from which an audit recomputes.
_ERASE_EVENTS = """
    UPDATE events AS e SET
        erased_hash = encode(sha256(convert_to(coalesce(a.salt, '') || e.id || e.body, 'UTF8')), 'hex'),
        body = (CASE WHEN (e.body::json #> '{data,receipt}') IS NULL
            THEN json_build_object('id', e.id, 'object', 'event', 'type', e.body::json -> 'type',
                'timestamp', e.body::json -> 'timestamp',
                'data', json_build_object('id', coalesce(e.job_id, e.account_id), 'erased', true))
            ELSE json_build_object('id', e.id, 'object', 'event', 'type', e.body::json -> 'type',
                'timestamp', e.body::json -> 'timestamp',
                'data', json_build_object('id', coalesce(e.job_id, e.account_id), 'erased', true,
                    'receipt', e.body::json #> '{data,receipt}')) END)::text,
        callback_url = NULL, callback_body = NULL, traceparent = NULL, request_id = NULL
    FROM accounts AS a WHERE a.id = e.account_id AND e.erased_hash IS NULL AND """


def _events(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Leave of each event its salted hash, and the receipt that it carries."""
    query = """
        SELECT occurred_at, id FROM events
        WHERE account_id = :subject AND (occurred_at, id) > (CAST(:k0 AS timestamptz), :k1) ORDER BY occurred_at, id"""
    for page in key_pages(query, account_id, first=_BEGIN):
        yield run_statements([f"{_ERASE_EVENTS}e.id = ANY(:ids)"], ids=[row.id for row in page])


def _webhooks(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Delete deliveries with their attempts, secrets and endpoints."""
    query = """
        SELECT created_at, id FROM webhook_deliveries
        WHERE account_id = :subject AND (created_at, id) > (CAST(:k0 AS timestamptz), :k1) ORDER BY created_at, id"""
    statements = (
        "DELETE FROM webhook_attempts WHERE delivery_id = ANY(:ids)",
        "DELETE FROM webhook_deliveries WHERE id = ANY(:ids)",
    )
    for page in key_pages(query, account_id, first=_BEGIN):
        yield run_statements(statements, ids=[row.id for row in page])
    yield run_statements(
        [
            "DELETE FROM webhook_secrets WHERE account_id = :subject",
            "DELETE FROM webhook_endpoints WHERE account_id = :subject",
        ],
        subject=account_id,
    )


def _moderation(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Delete what moderation decided about the account's words and pictures."""
    yield from repeat(
        """
        DELETE FROM moderation_outcomes WHERE id IN (
            SELECT id FROM moderation_outcomes WHERE account_id = :subject LIMIT 500)""",
        subject=account_id,
    )
    for statement in (
        "DELETE FROM refusal_counts WHERE account_id = :subject",
        "DELETE FROM order_stops WHERE account_id = :subject",
    ):
        yield run_statements([statement], subject=account_id)


# The reason of a transfer is replaced by what seals have of it.
ERASE_REASONS = """
    UPDATE transfers AS t SET reason =
        'erased:' || encode(sha256(convert_to(coalesce(a.salt, '') || t.id || t.reason, 'UTF8')), 'hex')
    FROM accounts AS a
    WHERE a.id = t.account_id AND t.reason <> '' AND t.reason !~ '^erased:[0-9a-f]{64}$' AND """


def _reasons(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Leave salted hashes of the reasons of transfers, and nothing of those of requests and pauses."""
    query = """
        SELECT at, id FROM transfers
        WHERE account_id = :subject AND (at, id) > (CAST(:k0 AS timestamptz), :k1) ORDER BY at, id"""
    for page in key_pages(query, account_id, first=_BEGIN):
        yield run_statements([f"{ERASE_REASONS}t.id = ANY(:ids)"], ids=[row.id for row in page])
    yield run_statements(
        ["UPDATE top_up_requests SET reason = '' WHERE account_id = :subject AND reason <> ''"], subject=account_id
    )
    yield run_statements(
        ["UPDATE intake_pauses SET reason = '' WHERE account_id = :subject AND reason <> ''"], subject=account_id
    )


# A member's row without what it says of a person. It stays, because keys, books and the audit log name its id.
ERASE_MEMBER = """
    UPDATE members SET email = '', name = '', password_hash = NULL, language = NULL, zone = NULL,
        last_signed_in_at = NULL, removed_at = coalesce(removed_at, :now)
    WHERE id = ANY(:ids)"""


def _people(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove members, invitations, sessions and the names of keys and projects. Keys and invitations end."""
    query = "SELECT id FROM members WHERE account_id = :subject AND id > :k0 ORDER BY id"
    statements = ("DELETE FROM web_sessions WHERE member_id = ANY(:ids)", ERASE_MEMBER)
    for page in key_pages(query, account_id, first=("",)):
        yield run_statements(statements, ids=[row.id for row in page], now=_moment())
    inputs = {"subject": account_id, "now": _moment()}
    yield run_statements(
        [
            """
            UPDATE invitations SET email = '', revoked_at = CASE WHEN accepted_at IS NULL
                THEN coalesce(revoked_at, :now) END WHERE account_id = :subject"""
        ],
        **inputs,
    )
    yield run_statements(
        [
            """
            UPDATE api_keys SET name = '', last_used_at = NULL, revoked_at = coalesce(revoked_at, :now)
            WHERE account_id = :subject"""
        ],
        **inputs,
    )
    yield run_statements(
        ["UPDATE projects SET name = id, archived_at = coalesce(archived_at, :now) WHERE account_id = :subject"],
        **inputs,
    )


def _registry(account_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove the account from the registry of films; the films stay in it, as the law asks."""
    yield from repeat(
        """
        UPDATE registry_films SET account_id = NULL WHERE film_id IN (
            SELECT film_id FROM registry_films WHERE account_id = :subject LIMIT 500)""",
        subject=account_id,
    )


def _audit_log(account_id: str, erasure_id: str) -> Iterator[int]:
    """Delete the personal facts of entries about the account."""
    yield from erase_entries(account_id, erasure_id, account_entries)


def _account(account_id: str, erasure_id: str) -> Iterator[int]:
    """Remove the account's name, and the salt without which no hash tells a value. It is the last step.

    What was written after its step, such as the reason of a correction, is erased while there is the salt: later it
    would have another hash than a seal.
    """
    yield from _audit_log(account_id, erasure_id)
    yield run_statements(
        [
            f"{_ERASE_EVENTS}e.account_id = :subject",
            f"{ERASE_REASONS}t.account_id = :subject",
            """
            UPDATE accounts SET name = 'erased', suspended_reason = 'erased', salt = NULL,
                suspended_at = coalesce(suspended_at, :now) WHERE id = :subject""",
        ],
        subject=account_id,
        now=_moment(),
    )


ACCOUNT_STEPS: dict[str, Action] = {
    "films": _films,
    "uploads": _uploads,
    "orders": _orders,
    "webhooks": _webhooks,
    "events": _events,
    "moderation": _moderation,
    "reasons": _reasons,
    "registry": _registry,
    "audit_log": _audit_log,
    "people": _people,
    "account": _account,
}


def _moment() -> datetime:
    with transaction() as session:
        return now(session)
