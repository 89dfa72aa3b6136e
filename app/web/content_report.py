"""The public form for reports of films. Its answer never says whether there is such a film."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.errors import AppError
from app.takedowns.categories import CATEGORIES
from app.takedowns.reports import DETAILS_MAX, EMAIL_MAX, NAME_MAX, PLACE_MAX, ReportForm, submit_report
from app.web.auth import FormDep, MaybeVisitor, SessionDep, text_of
from app.web.devices import network
from app.web.forms import NO_FORM, SubmittedForm
from app.web.render import page
from app.web.signin_limits import limit_tries

router = APIRouter(include_in_schema=False)

Place = Annotated[str, Query(max_length=PLACE_MAX)]
_LIMITS = {"place_max": PLACE_MAX, "details_max": DETAILS_MAX, "name_max": NAME_MAX, "email_max": EMAIL_MAX}


@router.get("/report")
def show_report_form(request: Request, visitor: MaybeVisitor, place: Place = "") -> Response:
    """Show the form, with the place where the film is if a page has linked here with it."""
    return page(
        request,
        "content_report/form.html",
        categories=CATEGORIES,
        report=None,
        error=None,
        form=NO_FORM,
        place=place,
        **_LIMITS,
    )


@router.post("/report")
def post_report(request: Request, session: SessionDep, form: FormDep, visitor: MaybeVisitor) -> Response:
    """Take a report in, and say by when it will be decided."""
    report, error = None, None
    try:
        typed = ReportForm(
            category=text_of(form, "category"),
            place=text_of(form, "place"),
            details=text_of(form, "details"),
            name=text_of(form, "name"),
            email=text_of(form, "email"),
            is_truthful=text_of(form, "truthful") == "yes",
        )
        # Checked first: who mistypes is not counted.
        typed.check()
        limit_tries(f"report:{network(request)}")
        report = submit_report(session, typed)
    except AppError as refusal:
        error = refusal
    return page(
        request,
        "content_report/form.html",
        status=error.status if error else 200,
        categories=CATEGORIES,
        report=report,
        error=error,
        form=SubmittedForm(form),
        place="",
        **_LIMITS,
    )
