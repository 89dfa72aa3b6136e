"""The description of a film that a visitor types on the landing page: its price, and its way through the sign-in.

A cookie of the visitor's browser keeps it until a film is ordered, so that it needs no script, is in no URL and
in no log, and survives a sign-in, a new account or an invitation.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.accounts.memberships import FREE
from app.catalog.models import VideoModel
from app.clock import now
from app.errors import AppError
from app.jobs.price_terms import PriceTerms
from app.jobs.quote import price_for_guest
from app.jobs.schemas import VideoRequest
from app.prices.find import book_at
from app.web.language import language
from app.web.problems import validation_error
from app.web.sessions import is_secure
from app.web.studio.understood import Understood, understood_prompts
from pricing.price import Price
from pricing.usage import Customer

# The most characters of a description: as a cookie they are at most four bytes each, in base64.
DESCRIPTION_MAX = 500
SECONDS = 5
RESOLUTION = "720P"
_COOKIE = "cinemeter_description"
_KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class DescriptionOffer:
    """What a described film would cost somebody without a membership, and which model would make it."""

    model: VideoModel
    price: Price
    size: str
    understood: Understood | None

    def shown(self) -> dict[str, Any]:
        """Return the values of the page."""
        return {
            "currency": self.price.currency,
            "total": self.price.total.text,
            "list_total": self.price.list_total.text,
            "is_less": self.price.total < self.price.list_total,
            "lines": [{"label": line.words(language()), "amount": line.amount.text} for line in self.price.lines],
            "seconds": SECONDS,
            "size": self.size,
            "model": self.model.name,
            "understood": self.understood,
        }


def check_description(text: str) -> str:
    """Return a description with its outer space removed. Raises AppError `invalid_request`."""
    plain = text.replace("\r\n", "\n").strip()
    if not plain:
        raise AppError("invalid_request", "Say what the film shows.", field="description")
    if len(plain) > DESCRIPTION_MAX:
        raise AppError("invalid_request", f"At most {DESCRIPTION_MAX} characters.", field="description")
    return plain


def price_description(session: Session, description: str) -> DescriptionOffer:
    """Price the film that the studio makes of a description, by the book in force and without a membership.

    `auto` selects the model, as in the studio. Raises AppError `invalid_request` for a text that is no prompt, and
    `no_rate` where no model can make the film or be priced.
    """
    moment = now(session)
    stored = book_at(session, moment)
    terms = PriceTerms(stored.id, stored.book, Customer(stored.book.known_membership(FREE)), moment)
    try:
        request = VideoRequest(prompt=description, seconds=SECONDS, resolution=RESOLUTION)
    except ValidationError as error:
        raise validation_error(error) from error
    try:
        film = price_for_guest(session, request, terms)
    except AppError as error:
        message = "No model is on sale at present. Ask an operator of this service."
        raise AppError("no_rate", message) from error
    [line] = understood_prompts(film.model, [description])
    return DescriptionOffer(film.model, film.price, f"{film.spec.width} × {film.spec.height}", line)


def keep_description(response: Response, description: str) -> None:
    """Store a description in the visitor's browser for a day."""
    value = urlsafe_b64encode(description.encode()).decode()
    response.set_cookie(
        _COOKIE, value, max_age=_KEPT_SECONDS, samesite="lax", secure=is_secure(), httponly=True, path="/"
    )


def forget_description(response: Response) -> None:
    """Remove the description from the visitor's browser."""
    response.delete_cookie(_COOKIE, path="/")


def kept_description(request: Request) -> str:
    """Return the description that the visitor's browser holds, or an empty text."""
    try:
        text = urlsafe_b64decode(request.cookies.get(_COOKIE, "")).decode()
        return check_description(text) if text else ""
    except (Base64Error, ValueError, AppError):
        return ""


def studio_path(request: Request) -> str:
    """Return the studio's URL path: with the kept description, where there is one.

    Its query names the description, so that the draft of another one, which scripts keep by URL, is not restored.
    """
    description = kept_description(request)
    if not description:
        return "/studio"
    return f"/studio?described={hashlib.sha256(description.encode()).hexdigest()[:12]}"
