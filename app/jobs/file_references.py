"""References of unfinished jobs to files that are not their own: clips of older films, and uploaded inputs.

They are read from the Specs, which name every such file: a retake of a retake reuses clips of the first film, which is
not its parent.
"""

from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONPATH
from sqlalchemy.orm import Session, aliased

from app.assets.find import asset_key
from app.assets.tables import Asset
from app.jobs.spec import Spec
from app.jobs.states import UNFINISHED
from app.jobs.tables import Job

_CLIPS = "$.shots[*].reuse_clips[*] ? (@ starts with $takes || @ starts with $films)"
_INPUTS = "$ ? (@.audio == $id || @.video == $id || @.shots[*].first_frame == $id || @.shots[*].last_frame == $id)"


def child_of(job_id: str) -> Any:
    """Select the id of an unfinished job that was derived from this one, or still reads one of its files."""
    child = aliased(Job)
    account = select(Job.account_id).where(Job.id == job_id).scalar_subquery()
    return select(child.id).where(child.account_id == account, _reads(child, literal(job_id))).limit(1)


def film_is_awaited() -> ColumnElement[bool]:
    """Return the condition on jobs that an unfinished job was derived from the row, or still reads one of its files."""
    child = aliased(Job)
    return select(child.id).where(child.account_id == Job.account_id, _reads(child, Job.id)).exists()


def asset_is_awaited() -> ColumnElement[bool]:
    """Return the condition on assets that an unfinished job still reads the row."""
    references = func.jsonb_path_exists(Job.spec, cast(_INPUTS, JSONPATH), func.jsonb_build_object("id", Asset.id))
    return select(Job.id).where(Job.account_id == Asset.account_id, Job.state.in_(UNFINISHED), references).exists()


def check_inputs(session: Session, spec: Spec) -> None:
    """Check that the inputs of an order still exist. Raises AppError `gone`."""
    for asset_id in spec.input_ids():
        asset_key(session, asset_id)


def _reads(child: type[Job], job_id: Any) -> ColumnElement[bool]:
    """Return the condition that an unfinished `child` was derived from a job, or names one of its files."""
    folders = {name: cast(literal(f"{name}/"), String) + job_id + "/" for name in ("takes", "films")}
    variables = func.jsonb_build_object(*(part for name, folder in folders.items() for part in (name, folder)))
    references = func.jsonb_path_exists(child.spec, cast(_CLIPS, JSONPATH), variables)
    return child.state.in_(UNFINISHED) & or_(child.parent_id == job_id, references)
