"""Projects of an account: create, set a monthly budget, archive."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.billing_periods import billing_month
from app.accounts.projects import archive_project, create_project, list_projects, set_alert, set_budget
from app.clock import now
from app.errors import AppError
from app.wallet.tables import Budget, BudgetScope
from app.web.auth import FormDep, OwnerDep, SessionDep, Visitor, text_of
from app.web.forms import NO_FORM, SubmittedForm, parse_optional_amount
from app.web.language import gettext
from app.web.render import page, redirect

router = APIRouter(include_in_schema=False)


@router.get("/account/projects")
def show_projects(request: Request, session: SessionDep, visitor: OwnerDep) -> Response:
    """Show the projects with their held and spent amounts of this month."""
    return _projects(request, session, visitor)


@router.post("/account/projects")
def post_project(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Create a project."""
    currency = visitor.currency
    try:
        budget = parse_optional_amount(text_of(form, "budget"), currency, "budget")
        with session.begin_nested():
            create_project(session, visitor.caller.account_id, text_of(form, "name"), budget_month=budget)
    except AppError as error:
        return _projects(request, session, visitor, error=error, form=SubmittedForm(form))
    return redirect(request, "/account/projects")


@router.post("/account/projects/{project_id}/budget")
def post_budget(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, project_id: str) -> Response:
    """Set or remove a project's monthly budget and its alert."""
    try:
        budget = parse_optional_amount(text_of(form, "budget"), visitor.currency, "budget")
        alert = parse_optional_amount(text_of(form, "alert"), visitor.currency, "alert")
        with session.begin_nested():
            set_budget(session, visitor.caller.account_id, project_id, budget)
            set_alert(session, visitor.caller.account_id, project_id, alert)
    except AppError as error:
        return _projects(request, session, visitor, error=error, form=SubmittedForm(form, project_id))
    return redirect(request, "/account/projects")


@router.post("/account/projects/{project_id}/archival")
def post_archival(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, project_id: str) -> Response:
    """Archive a project; it accepts no new films."""
    archive_project(session, visitor.caller.account_id, project_id)
    return redirect(request, "/account/projects")


def _projects(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    month = billing_month(visitor.billing_zone, now(session))
    projects = list_projects(session, visitor.caller.account_id)
    budgets = {
        row.subject_id: row
        for row in session.scalars(
            select(Budget).where(
                Budget.account_id == visitor.caller.account_id,
                Budget.scope == BudgetScope.PROJECT,
                Budget.month == month,
            )
        )
    }
    rows = []
    for project in projects:
        budget = budgets.get(project.id)
        held_minor, spent_minor = (budget.held, budget.spent) if budget else (0, 0)
        rows.append(
            {
                "id": project.id,
                "name": project.name,
                "budget": project.budget_month,
                "alert": project.alert_month,
                "held": held_minor,
                "spent": spent_minor,
            }
        )
    currency = visitor.currency
    context: dict[str, Any] = {
        "title": gettext("Projects"),
        "projects": rows,
        "month": month,
        "currency": currency,
        "error": error,
        "form": form,
    }
    status = error.status if error else 200
    return page(request, "account/projects.html", status=status, **context)
