"""The finish of a film on a real store and a real database that fail for a moment."""

from sqlalchemy import update

from app.db import transaction
from app.jobs.queue_tables import Unit
from app.jobs.tables import Job
from app.storage import StorageError
from tests.api_client import World
from tests.workers.conftest import Gate
from tests.workers.worker_processes import takes


def test_a_store_that_is_away_for_a_moment_costs_no_film(world: World, gate: Gate) -> None:
    away = True

    def upload(key: str) -> None:
        if away and key.startswith("films/"):
            raise StorageError("The bucket is gone.")

    gate(upload)
    made = world.post("/v1/videos", {"model": "synthetic", "prompt": "bars", "seconds": 1})
    job_id = str(made.json()["id"])
    world.work()
    failed = takes()[-1]
    assert (failed.kind, failed.state, failed.error_code) == ("finish", "failed", "storage_failed")
    with transaction() as session:
        assert session.get_one(Job, job_id).state == "in_progress"
        # The pause is over.
        session.execute(update(Unit).where(Unit.job_id == job_id).values(not_before=None))
    away = False
    world.work()
    assert world.get(f"/v1/videos/{job_id}").json()["status"] == "completed"
