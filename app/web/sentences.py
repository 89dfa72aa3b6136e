"""Messages of errors in the language of a page.

An AppError holds an English sentence, which the API sends. On a page in another language the sentence is looked up in
the catalogue `errors.po`: by itself, else by a pattern whose numbered holes (`{0}`) stand where the code puts values. A
sentence that is not in the catalogue becomes that of its error code, so that no page shows English.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from app.errors import ERROR_CODES
from app.jobs.review import REFUSED_MESSAGES
from app.takedowns.decide import REMOVED_MESSAGE
from app.web.language import DEFAULT, LANGUAGES, catalogue, language

_HOLE = re.compile(r"\{(\d+)\}")
# Why a job failed (`error.code`), where the message of its worker is not in the catalogue.
JOB_ERRORS = {
    "worker_lost": "Workers died while they rendered this film.",
    "render_failed": "The model could not render this film.",
    "encode_failed": "A shot of this film could not be encoded.",
    "finish_failed": "The shots of this film could not be joined.",
    "storage_failed": "The storage for films was unavailable.",
    "check_failed": "The pictures of this film could not be checked.",
    "model_refused": "The model cannot make this film.",
    "bad_sound": "The model made no usable sound.",
    "bad_frames": "The model made pictures that cannot be shown.",
}
# Parts of messages that the code puts together, and messages of pydantic.
PARTS = (
    "{0}: {1}.",
    "Shot {0}: {1}",
    "This model does not know {0}; it draws {1}.",
    "No subject that this model knows; it draws {0}.",
    "{0} and a {1}",
    "a {0}",
    "{0} or {1}",
    "The price is now {0}; the page showed {1}.",
    "{0} at {1}x{2} with {3} frames needs about {4} GiB; there is {5}.",
    "these do: {0}",
    "no enabled model does",
    REMOVED_MESSAGE,
    *REFUSED_MESSAGES.values(),
    *("this account", "this network", "files", "films", "streams", "URLs", "test sends", "large bodies"),
    *("bytes of large bodies", "followed", "received", "fetched", "verified", "ingested", "read", "made"),
    "unfinished jobs",
    "unfinished test jobs",
    "jobs",
    "requests",
    "test ",
    "The form",
    "There is no video with this id.",
    "Field required",
    "Input should be greater than or equal to {0}",
    "Input should be greater than {0}",
    "Input should be less than or equal to {0}",
    "Input should be less than {0}",
    "Input should be a valid integer",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be a valid number",
    "Input should be a valid number, unable to parse string as a number",
    "Input should be {0}",
    "String should have at most {0} characters",
    "String should have at least {0} characters",
    "String should have at least {0} character",
    "String should match pattern {0}",
    "Value error, {0}",
    "text may hold any character but NUL (U+0000)",
    "money is a decimal string such as '2.50'; a number with a point would be a float",
)
# How deep texts stand in one another: a question holds a warning of a shot, which holds a noun with its article.
_DEPTH_MAX = 5
# A message may repeat what a stranger sent. Longer ones are not taken apart, and none in more steps than these.
_LENGTH_MAX = 2000
_STEPS_MAX = 200
# A pattern with fewer letters joins texts, and would match sentences that it does not mean.
_SENTENCE_LETTERS = 6


class CodedError(Protocol):
    """An error with a code and an English sentence: of a request, of a job, of a simulation."""

    @property
    def code(self) -> str:
        """Its code."""

    @property
    def message(self) -> str:
        """Its sentence."""


def sentence(error: CodedError) -> str:
    """Return the message of an error in the request's language."""
    if language() == DEFAULT:
        return error.message
    return _Translation().of(error.message) or _of_code(error.code)


def sentence_text(message: str) -> str:
    """Return an English sentence without a code in the request's language; itself where the catalogue lacks it."""
    if language() == DEFAULT:
        return message
    return _Translation().of(message) or message


def read_catalogues() -> None:
    """Read the catalogues of every language, before a process serves: that takes a quarter of a second."""
    for name in LANGUAGES:
        if name != DEFAULT:
            catalogue(name, "pages")
            _patterns(name)


def _of_code(code: str) -> str:
    meaning = JOB_ERRORS.get(code) or ERROR_CODES.get(code, ERROR_CODES["internal_error"])[1]
    return _texts(language()).get(meaning, meaning)


def _texts(name: str) -> Mapping[str, str]:
    return catalogue(name, "errors")


class _Translation:
    """The translation of one message into the request's language."""

    def __init__(self) -> None:
        self._steps_left = _STEPS_MAX

    def of(self, message: str, depth: int = _DEPTH_MAX) -> str | None:
        """Return the translation, or None where the catalogue has neither the message nor a pattern for it."""
        name = language()
        plain = _texts(name).get(message) or catalogue(name, "pages").get(message)
        if plain is not None and not _HOLE.search(message):
            return plain.replace("%%", "%")
        if depth == 0 or self._steps_left == 0 or len(message) > _LENGTH_MAX:
            return None
        self._steps_left -= 1
        for pattern, text, is_sentence in _patterns(name):
            match = pattern.fullmatch(message)
            if match is None:
                continue
            values = [self.of(value, depth - 1) or _as_it_is(value, is_sentence) for value in match.groups()]
            if None not in values:
                return _filled(text, values)
        return None


def _filled(text: str, values: Sequence[str | None]) -> str:
    return _HOLE.sub(lambda hole: str(values[int(hole[1])]), text)


def _as_it_is(value: str, is_sentence: bool) -> str | None:
    """Return a value of a pattern, such as a name; None for several words in a pattern of few words of its own."""
    return value if is_sentence or " " not in value.strip() else None


def _pattern(literals: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of a message: its literals with values between them, each up to the next literal.

    Atomic groups keep a text that nearly fits from being tried in every way, which takes time without a bound.
    """
    first, *middle, last = literals
    groups = "".join(f"(?>(.*?){re.escape(literal)})" for literal in middle)
    return re.compile(f"{re.escape(first)}{groups}(.*?){re.escape(last)}", re.DOTALL)


@lru_cache(maxsize=4)
def _patterns(name: str) -> list[tuple[re.Pattern[str], str, bool]]:
    """Return the patterns of a catalogue, those with the most text of their own first, and which are sentences."""
    rows = []
    for message, text in _texts(name).items():
        parts = _HOLE.split(message)
        if len(parts) == 1:
            continue
        # Odd places hold the numbers of the holes, which stand in their order.
        literal = "".join(parts[::2])
        letters = sum(each.isalpha() for each in literal)
        rows.append((len(literal), _pattern(parts[::2]), text, letters >= _SENTENCE_LETTERS))
    return [row[1:] for row in sorted(rows, key=lambda row: -row[0])]
