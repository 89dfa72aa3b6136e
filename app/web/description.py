"""The description of a film that a visitor types on the landing page: its price, and its way through the sign-in.

It lies in a cookie of the visitor's browser until a film is ordered, so that it needs no script, stands in no URL and
in no log, and survives a sign-in, a new account or an invitation.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.accounts.memberships import FREE
from app.catalog.models import VideoModel, load_catalog
from app.catalog.sizes import resolve_size
from app.clock import now
from app.errors import AppError
from app.jobs.model_terms import on_sale
from app.prices.find import book_at
from app.settings import get_settings
from app.web.sessions import is_secure
from app.web.studio.understood import Understood, understood_prompts
from pricing.book import PriceBook, PriceError
from pricing.price import Price, price
from pricing.rate_key import RateKey
from pricing.usage import Customer, Usage

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
            "lines": [{"label": line.label, "amount": line.amount.text} for line in self.price.lines],
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

    The cheapest model on sale makes it, as `auto` decides. Raises AppError `no_rate` where none can be priced.
    """
    moment = now(session)
    book = book_at(session, moment).book
    size = resolve_size(None, RESOLUTION, None)
    models = on_sale(session, load_catalog(get_settings().catalog_dir).values())
    able = [each for each in models if "t2v" in each.modes and each.native_size(size) and each.family != "synthetic"]
    priced = [(each, amount) for each in able if (amount := _price(book, each, moment)) is not None]
    if not priced:
        raise AppError("no_rate", "No model is on sale at present. Ask an operator of this service.")
    model, amount = min(priced, key=lambda each: each[1].total.minor)
    [line] = understood_prompts(model, [description])
    return DescriptionOffer(model, amount, f"{size.width} × {size.height}", line)


def _price(book: PriceBook, model: VideoModel, moment: datetime) -> Price | None:
    usage = Usage(RateKey(model.id, RESOLUTION, audio=model.sound), Fraction(SECONDS))
    try:
        return price(book, usage, Customer(book.known_membership(FREE)), moment)
    except PriceError:
        return None


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
