"""Checkpoints leave a machine with the unit they belong to, and not before."""

from sqlalchemy import Engine

from app.db import transaction
from app.jobs.states import UnitState
from tests.factories import make_account, make_queued_job, make_spec, units_of
from workers.checkpoints import checkpoint_folder, forget_checkpoints, remove_stale_checkpoints


def keep(unit_id: str) -> None:
    folder = checkpoint_folder(unit_id)
    folder.mkdir(parents=True)
    (folder / "a.checkpoint").write_bytes(b"latents")


def test_only_what_nobody_will_resume_is_swept(engine: Engine) -> None:
    assert remove_stale_checkpoints() == 0, "a machine that kept none has nothing to sweep"
    with transaction() as session:
        job = make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(1, 1, 1)))
        waiting, done, dropped = [unit for unit in units_of(session, job) if unit.kind == "segment"]
        done.state, dropped.state = UnitState.DONE, UnitState.DROPPED
        ids = [waiting.id, done.id, dropped.id]
    for unit_id in (*ids, "unit_of_another_database"):
        keep(unit_id)
    assert remove_stale_checkpoints() == 3
    assert [checkpoint_folder(unit_id).exists() for unit_id in ids] == [True, False, False]
    forget_checkpoints(ids[0])
    assert not checkpoint_folder(ids[0]).exists()
