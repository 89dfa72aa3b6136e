"""Project routes for customers: the open projects. Owners create and limit projects on the account's pages."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.accounts import projects
from app.api.access import VideosCaller
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/projects", tags=["projects"])


class ProjectOut(BaseModel):
    """A business unit of the account; orders name it as their `project`."""

    id: str
    object: Literal["project"] = "project"
    name: str
    created_at: datetime


class ProjectList(BaseModel):
    """All open projects by name. There are never many, so there are no pages."""

    object: Literal["list"] = "list"
    data: list[ProjectOut]


@router.get("")
def list_projects(session: SessionDep, caller: VideosCaller) -> ProjectList:
    """List the account's open projects; a project's key sees only its own project."""
    rows = projects.list_projects(session, caller.account_id)
    visible = [each for each in rows if caller.project_id in (None, each.id)]
    return ProjectList(data=[ProjectOut(id=each.id, name=each.name, created_at=each.created_at) for each in visible])
