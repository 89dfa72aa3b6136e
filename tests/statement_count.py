"""Count the statements that an action sends to the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Engine, event

from app.accounts.caller import Caller
from app.accounts.tables import Account
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import succeed_finish, succeed_segment
from app.jobs.idempotency import OrderIdentity
from app.jobs.settle import StoredFilm
from app.jobs.submit import submit
from tests.ledger_simulation import request


@contextmanager
def recorded_statements(engine: Engine) -> Iterator[list[str]]:
    """Record each statement of this process during the block, on one line. BEGIN, COMMIT and pings are not counted."""
    statements: list[str] = []

    def record(_connection: Connection, _cursor: object, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


def order(
    engine: Engine, caller: Caller, *, key: str | None = None, seconds: int = 2, n: int | None = None
) -> list[str]:
    """Order a film; return the statements, without those that find the account again, as a request has done already."""
    wanted = request(seconds=seconds, n=n)
    with transaction(engine) as session:
        session.get_one(Account, caller.account_id)
        with recorded_statements(engine) as statements:
            submit(session, caller, OrderIdentity(wanted, fingerprint=wanted.model_dump_json(), idempotency_key=key))
    return statements


def next_claim(engine: Engine) -> Claim:
    with transaction(engine) as session:
        lease = claim(session, "worker-1", ["finish", "synthetic"])
    assert lease is not None
    return lease


def end_segment(engine: Engine, lease: Claim) -> list[str]:
    with recorded_statements(engine) as statements, transaction(engine) as session:
        succeed_segment(session, lease, clip_key="clip.mp4", handover_key=None, meter={"gpu_seconds": "1.5"})
    return statements


def end_film(engine: Engine, lease: Claim, *, frames: int) -> list[str]:
    film = StoredFilm(
        key="film.mp4",
        poster_key="film.jpg",
        sprites_key="sprites.jpg",
        sha256="0" * 64,
        bytes=1000,
        frames=frames,
        fps=Fraction(16),
        width=1280,
        height=720,
        has_audio=True,
        reused_frames=0,
        facts={},
    )
    with recorded_statements(engine) as statements, transaction(engine) as session:
        succeed_finish(session, lease, film, meter={"gpu_seconds": "0"})
    return statements


def listed(statements: list[str]) -> str:
    return "\n".join(f"{number} {statement[:160]}" for number, statement in enumerate(statements, 1))
