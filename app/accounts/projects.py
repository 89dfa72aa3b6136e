"""Projects: the business units of an account, each with a budget per billing month."""

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.tables import Project
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from pricing.money import require_integer


def create_project(session: Session, account_id: str, name: str, *, budget_month: int | None = None) -> Project:
    """Open a project, with a budget per billing month in minor units, or none.

    Raises AppError `invalid_request`; `conflict` if the account has an open project of this name.
    """
    if not name.strip():
        raise AppError("invalid_request", "A project needs a name.", field="name")
    _check_budget(budget_month)
    project = Project(
        id=new_id("proj"), account_id=account_id, name=name.strip(), budget_month=budget_month, created_at=now(session)
    )
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError as error:
        if "uq_projects_name" not in str(error.orig):
            raise
        raise AppError("conflict", "The account has a project of this name.", field="name", value=name) from None
    return project


def get_project(session: Session, account_id: str, project_id: str) -> Project:
    """Return a project of this account that is not archived, by its id or its name.

    Raises AppError `not_found`, for another account's project too.
    """
    project = session.scalar(
        select(Project).where(
            Project.account_id == account_id,
            Project.archived_at.is_(None),
            (Project.id == project_id) | (Project.name == project_id),
        )
    )
    if project is None:
        raise not_found("project", project_id)
    return project


def list_projects(session: Session, account_id: str) -> list[Project]:
    """Return the account's projects that are not archived, by name."""
    query = select(Project).where(Project.account_id == account_id, Project.archived_at.is_(None))
    return list(session.scalars(query.order_by(Project.name)))


def set_budget(session: Session, account_id: str, project_id: str, budget_month: int | None) -> Project:
    """Set the budget per billing month in minor units; None lifts it. It binds jobs that are accepted from now on."""
    _check_budget(budget_month)
    project = get_project(session, account_id, project_id)
    project.budget_month = budget_month
    session.flush()
    return project


def set_alert(session: Session, account_id: str, project_id: str, alert_month: int | None) -> Project:
    """Set what a billing month may come to, in minor units, before the event `project.alert`; None for no alert.

    It is sent once in a month, and once more after it was set anew. Raises AppError `invalid_request`, `not_found`.
    """
    if alert_month is not None and require_integer(alert_month, "alert_month", least=None) < 1:
        raise AppError("invalid_request", "An alert needs an amount above 0.", field="alert")
    project = get_project(session, account_id, project_id)
    project.alert_month, project.alert_told_month = alert_month, None
    session.flush()
    return project


def archive_project(session: Session, account_id: str, project_id: str) -> Project:
    """Close a project to new jobs; its past stays on statements. Raises `not_found`."""
    project = get_project(session, account_id, project_id)
    project.archived_at = now(session)
    session.flush()
    return project


def _check_budget(budget_month: int | None) -> None:
    if budget_month is not None and require_integer(budget_month, "budget_month", least=None) < 0:
        raise AppError("invalid_request", "A budget is 0 or more minor units.", field="budget_month")
