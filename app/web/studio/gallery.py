"""Films: the gallery with its filters, and the names and stars of films."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.catalog.models import Catalog, load_catalog
from app.catalog.sizes import RATIOS
from app.jobs.film_labels import mark_favourite, rename_film
from app.jobs.film_list import FilmFilter, list_films, ordered_models
from app.jobs.find import find_job
from app.jobs.model_terms import on_sale
from app.jobs.states import JobState
from app.reports.statements import project_names
from app.settings import get_settings
from app.web.auth import CreatorDep, FormDep, SessionDep, text_of
from app.web.formats import words
from app.web.language import gettext, gettext_noop, translate
from app.web.render import is_htmx, page, redirect
from app.web.studio.film_card import card_of, cards_of

router = APIRouter(include_in_schema=False)

PAGE = 60

Text = Annotated[str, Query(max_length=200)]
SORT_TEXTS = {"newest": gettext_noop("Newest first"), "oldest": gettext_noop("Oldest first")}


@router.get("/films")
def show_films(
    request: Request,
    session: SessionDep,
    visitor: CreatorDep,
    search: Text = "",
    state: Text = "",
    project: Text = "",
    model: Text = "",
    ratio: Text = "",
    since: Text = "",
    until: Text = "",
    favourites: Text = "",
    sort: Text = "newest",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show the gallery: all films, or those that its filters leave."""
    states, projects = [str(each) for each in JobState], project_names(session, visitor.caller.account_id)
    catalog = load_catalog(get_settings().catalog_dir)
    model = catalog.aliases.get(model, model)
    models = _models(session, catalog)
    values = {
        "search": search,
        "state": state if state in states else "",
        "project": project if project in projects else "",
        "model": model if model in models else "",
        "ratio": ratio if ratio in RATIOS else "",
        "since": since if _day(since) else "",
        "until": until if _day(until) else "",
        "favourites": "yes" if favourites else "",
        "sort": sort if sort in SORT_TEXTS else "newest",
    }
    jobs, more = list_films(session, visitor.caller, _filter(values, visitor.zone), after=after, limit=PAGE)
    filters = {name: value for name, value in values.items() if value and (name, value) != ("sort", "newest")}
    return page(
        request,
        "studio/films.html",
        title=gettext("Films"),
        cards=cards_of(session, jobs),
        values=values,
        is_filtered=bool(filters),
        has_more_filters=bool(filters.keys() - {"search", "favourites", "sort"}),
        options={
            "project": projects,
            "model": models,
            "ratio": dict(zip(RATIOS, RATIOS, strict=True)),
            "state": {each: words(each) for each in states},
            "sort": {each: translate(text) for each, text in SORT_TEXTS.items()},
        },
        empty_text=gettext("No film matches.") if filters or after else gettext("No films yet."),
        next=f"/films?{urlencode({**filters, 'after': jobs[-1].id})}" if more else None,
    )


@router.post("/films/{video_id}/favourite")
def post_favourite(
    request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str
) -> Response:
    """Mark a film as a favourite, or no longer."""
    job = find_job(session, visitor.caller, video_id)
    mark_favourite(session, job, text_of(form, "favourite") == "yes")
    if is_htmx(request):
        return page(request, "studio/card.html", card=card_of(session, job))
    return redirect(request, f"/films/{video_id}")


@router.post("/films/{video_id}/name")
def post_name(request: Request, session: SessionDep, visitor: CreatorDep, form: FormDep, video_id: str) -> Response:
    """Name a film."""
    job = find_job(session, visitor.caller, video_id)
    rename_film(session, Actor.of(visitor.caller), job, text_of(form, "name"))
    return redirect(request, f"/films/{video_id}")


def _models(session: Session, catalog: Catalog) -> dict[str, str]:
    """Return the names of models by id: those on sale, and others that films were made with."""
    models = {each.id: each.name for each in on_sale(session, catalog.values(), with_retired=True)}
    return models | {each: catalog[each].name if each in catalog else each for each in ordered_models(session)}


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _filter(values: dict[str, Any], zone: str) -> FilmFilter:
    """Return the filter of the form's values; its dates are days in the account's zone, the last one included."""

    def midnight(name: Literal["since", "until"], days: int) -> datetime | None:
        chosen = _day(values[name])
        # The first and the last representable day have no neighbour.
        if chosen is None or not date(1970, 1, 1) <= chosen <= date(9000, 1, 1):
            return None
        return datetime.combine(chosen + timedelta(days), time(), ZoneInfo(zone))

    return FilmFilter(
        search=values["search"],
        state=values["state"],
        project=values["project"],
        model=values["model"],
        ratio=values["ratio"],
        since=midnight("since", 0),
        until=midnight("until", 1),
        is_favourite=bool(values["favourites"]),
        sort=values["sort"],
    )
