"""The language of a page: chosen by the member, else by a cookie, else by the browser; and texts in that language.

English is what the code says. The other languages are catalogues in `locale/`, read once per process: `pages.po` has
the texts of templates and pages, `errors.po` the messages of errors (see `app/web/sentences.py`).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.resources import files
from io import BytesIO

from babel.messages.pofile import read_po
from starlette.requests import HTTPConnection

from pricing.window import Title

DEFAULT = "en"
# In the order of the switch, each in its own words.
LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
# What `lang` says: browsers choose the shapes of Chinese characters by it.
LANGUAGE_TAGS: Mapping[str, str] = {"en": "en", "zh": "zh-CN"}
LANGUAGE_COOKIE = "cinemeter_language"
# A header longer than this is no list of a person's languages.
_HEADER_LENGTH_MAX = 500


class _Choice:
    """The language of one request: one object for all its threads, so that a member's choice reaches each of them."""

    def __init__(self, language: str = "", request: HTTPConnection | None = None) -> None:
        self.request = request
        self.name = language

    @property
    def language(self) -> str:
        """The language. That of the browser is read when it is first wanted: most API calls want none."""
        if not self.name:
            self.name = DEFAULT if self.request is None else requested_language(self.request)
        return self.name


_choice: ContextVar[_Choice | None] = ContextVar("language", default=None)


def language() -> str:
    """Return the language of the request that is being answered, `en` outside of one."""
    choice = _choice.get()
    return choice.language if choice else DEFAULT


def choose_language(name: str | None) -> None:
    """Set the language of the request that is being answered to the one its member chose; None leaves it."""
    choice = _choice.get()
    if choice is not None and name is not None and name in LANGUAGES:
        choice.name = name


@contextmanager
def in_language(name: str) -> Iterator[None]:
    """Use a language within the block. Raises KeyError for an unknown one."""
    with _chosen(_Choice(language=name if name in LANGUAGES else LANGUAGES[name])):
        yield


@contextmanager
def language_for(request: HTTPConnection) -> Iterator[None]:
    """Answer a request within the block, in its language. A block inside another one changes nothing."""
    if _choice.get() is not None:
        yield
        return
    with _chosen(_Choice(request=request)):
        yield


@contextmanager
def _chosen(choice: _Choice) -> Iterator[None]:
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


def requested_language(request: HTTPConnection) -> str:
    """Return a visitor's language: that of the cookie, else the best of the browser's (Accept-Language), else `en`."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    best, best_weight = DEFAULT, 0.0
    accepted = request.headers.get("accept-language", "")
    for part in accepted[:_HEADER_LENGTH_MAX].split(","):
        tag, _, parameters = part.strip().partition(";")
        weight = _weight(parameters)
        name = tag.split("-")[0].strip().lower()
        if name in LANGUAGES and weight > best_weight:
            best, best_weight = name, weight
    return best


def _weight(parameters: str) -> float:
    match = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameters)
    return float(match[1]) if match else (1.0 if not parameters.strip() else 0.0)


@lru_cache(maxsize=8)
def catalogue(name: str, domain: str) -> Mapping[str, str]:
    """Return the texts of a catalogue by the English ones; empty for English. Entries marked fuzzy are left out.

    `domain` is `pages` or `errors`. A text with a plural is found by its singular.
    """
    if name == DEFAULT:
        return {}
    source = files("app.web").joinpath("locale", name, f"{domain}.po").read_bytes()
    texts = {}
    for message in read_po(BytesIO(source), locale=name, domain=domain):
        singular = message.id[0] if isinstance(message.id, tuple | list) else message.id
        text = message.string[0] if isinstance(message.string, tuple | list) else message.string
        if singular and text and not message.fuzzy:
            texts[str(singular)] = str(text)
    return texts


def translate(message: str) -> str:
    """Return a text of the pages in the request's language, with its placeholders; in English where that lacks it."""
    return catalogue(language(), "pages").get(message, message)


def translate_count(singular: str, plural: str, number: int) -> str:
    """Return the form of a text for a number, in the request's language, with its placeholders."""
    if language() == DEFAULT:
        return singular if number == 1 else plural
    return translate(singular)


def gettext(message: str, **values: object) -> str:
    """Return a text of the pages in the request's language; values fill placeholders as `%(name)s`."""
    return translate(message) % values


def ngettext(singular: str, plural: str, number: int, **values: object) -> str:
    """Return the form of a text for a number (`%(number)s`) in the request's language."""
    return translate_count(singular, plural, number) % {"number": f"{number:,}", **values}


def gettext_noop(message: str) -> str:
    """Return a text unchanged: it is extracted for the catalogue here, and translated where it is shown."""
    return message


def title_text(title: Title) -> str:
    """Return a title of a price book or contract in the request's language."""
    return str(getattr(title, language()))
