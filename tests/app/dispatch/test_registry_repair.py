"""Films that a worker of the version before the registry has finished get their row afterwards, once."""

from datetime import timedelta

from sqlalchemy import Engine, select

from app.clock import now
from app.db import transaction
from app.dispatch.registry_repair import RegistryRepair
from app.dispatch.retention import chores, clean
from app.jobs.states import JobState, advance
from app.provenance.registry_tables import RegistryFilm
from tests.factories import make_account, make_queued_job


def end_film(account_id: str, *, ago: timedelta, sha256: str | None) -> str:
    """End a job as an old worker does: with a film or without, and without a row in the registry."""
    with transaction() as session:
        job = make_queued_job(session, account_id)
        advance(job, JobState.IN_PROGRESS, at=now(session))
        advance(job, JobState.COMPLETED if sha256 else JobState.FAILED, at=now(session))
        job.finished_at = now(session) - ago
        job.film = {"sha256": sha256} if sha256 else None
        return job.id


def registered() -> dict[str, str]:
    with transaction() as session:
        rows = session.execute(select(RegistryFilm.film_id, RegistryFilm.sha256)).all()
    return {row.film_id: row.sha256 for row in rows}


def test_films_without_a_row_get_one_once_no_transaction_of_their_time_is_open(engine: Engine, redis_url: str) -> None:
    with transaction() as session:
        account_id = make_account(session).id
    hours = timedelta(hours=1)
    late = end_film(account_id, ago=3 * hours, sha256="a" * 64)
    end_film(account_id, ago=3 * hours, sha256=None)
    end_film(account_id, ago=hours / 2, sha256="b" * 64)
    assert clean(chores())["registry_rows"] == 1
    assert registered() == {late: "a" * 64}

    repair = RegistryRepair()
    assert repair.run() == 0, "it is there"
    later = end_film(account_id, ago=2 * hours, sha256="c" * 64)
    assert repair.run() == 1, "it goes on where it stopped"
    assert registered() == {late: "a" * 64, later: "c" * 64}
