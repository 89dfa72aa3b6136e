"""Write the catalogues of `app/web/locale`: every text of the pages and every message of errors, with its translation.

`python -m tests.repo.catalogues` adds what is new, drops what is gone, keeps what is translated, and prints what lacks
a translation. Translate there, in the `.po` files; nothing is compiled.
"""

import re
import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_python
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from app.catalog.demo_words import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES, SPEEDS
from app.catalog.models import load_catalog
from app.errors import ERROR_CODES
from app.events.types import EVENT_TYPES
from app.provenance.label_policy import LABEL_TITLES
from app.takedowns.categories import CATEGORIES
from app.web.console.book_fields import BOOK, TABLES
from app.web.language import DEFAULT, LANGUAGES
from app.web.reference_titles import GROUPS
from app.web.script_texts import texts_in_scripts
from app.web.sentences import JOB_ERRORS, PARTS
from app.web.studio.examples import EXAMPLES
from app.web.words import CODES
from tests.repo.error_messages import messages_of
from tests.repo.sources import ROOT

WEB = ROOT / "app" / "web"
_PYTHON_KEYWORDS = {"gettext": None, "gettext_noop": None, "ngettext": (1, 2)}
_COUNT = re.compile(r'\|\s*count\("([a-z -]+)"\)|\bcount\([^()]+, "([a-z -]+)"\)')
# Packages whose messages no page shows: they answer clients and terminals.
_NOT_SHOWN = ("app/api/", "app/cli/", "app/migrations/")
# Except these, which every request may meet.
_SHOWN = ("app/api/problems.py", "app/api/access.py", "app/api/request_body.py")

# What the studio says that the demo model takes from a prompt.
_SCENE_WORDS = tuple(dict.fromkeys((*SHAPES, *COLORS, *BACKGROUNDS, *MOTIONS, *SIZES, *SPEEDS)))

Messages = dict[str | tuple[str, str], set[str]]


def page_messages() -> Messages:
    """Return every text of the pages with the places where it is; a text with a plural as its two forms."""
    messages: Messages = {}

    def add(message: str | tuple[str, ...], place: str) -> None:
        key = (message[0], message[1]) if isinstance(message, tuple | list) else message
        messages.setdefault(key, set()).add(place)

    for path in sorted(WEB.rglob("*.html")):
        place, source = str(path.relative_to(ROOT)), path.read_bytes()
        for _, _, found, _ in babel_extract(BytesIO(source), ("_",), (), {"encoding": "utf-8"}):
            # Behind the text are the values of its placeholders.
            text = found if isinstance(found, str) else found[0]
            if text:
                add(text, place)
    for path in sorted((*WEB.rglob("*.html"), *WEB.rglob("*.py"))):
        for nouns in _COUNT.findall(path.read_text(encoding="utf-8")):
            noun = nouns[0] or nouns[1]
            add((f"%(number)s {noun}", f"%(number)s {noun}s"), str(path.relative_to(ROOT)))
    for path in sorted(WEB.rglob("*.py")):
        with path.open("rb") as file:
            for _, name, found, _ in extract_python(file, tuple(_PYTHON_KEYWORDS), (), {}):
                texts = [found] if isinstance(found, str) else [each for each in found if each]
                if texts:
                    add((texts[0], texts[1]) if name == "ngettext" else texts[0], str(path.relative_to(ROOT)))
    for text, place in _data_texts():
        add(text, place)
    return messages


def _data_texts() -> Iterable[tuple[str, str]]:
    """Yield the texts that pages show out of data that ships with the code."""
    yield from ((text, "app/web/static/js") for text in texts_in_scripts())
    yield from ((code, "app/web/words.py") for code in CODES)
    for model in load_catalog("").values():
        yield from ((text, "app/catalog") for text in (model.note, *model.prompt_words) if text)
        yield from ((word, "app/catalog") for words in model.prompt_words.values() for word in words)
    yield from ((word, "app/catalog/demo_words.py") for word in _SCENE_WORDS)
    yield from ((meaning, "app/events/types.py") for meaning in EVENT_TYPES.values())
    yield from ((each.title, "app/web/studio/examples.py") for each in EXAMPLES)
    for fields in (BOOK, *TABLES.values()):
        yield from ((text, "app/web/console/book_fields.py") for each in fields for text in (each.label, each.allowed))
    yield from ((each, "app/provenance/label_policy.py") for each in LABEL_TITLES.values())
    yield from ((each.label, "app/takedowns/categories.py") for each in CATEGORIES.values())
    yield from ((title, "app/web/reference_titles.py") for _, title in GROUPS.values())


def error_messages() -> Messages:
    """Return every message of errors that a page may show, its values as numbered holes, and those of the codes."""
    messages: Messages = {meaning: {"app/errors.py"} for _, meaning in ERROR_CODES.values()}
    messages |= {text: {"app/web/sentences.py"} for text in (*JOB_ERRORS.values(), *PARTS)}
    for path in sorted((ROOT / "app").rglob("*.py")):
        place = str(path.relative_to(ROOT))
        if place.startswith(_NOT_SHOWN) and place not in _SHOWN:
            continue
        for message in messages_of(path):
            messages.setdefault(message, set()).add(place)
    return messages


DOMAINS = {"pages": page_messages, "errors": error_messages}


def path_of(language: str, domain: str) -> Path:
    """Return the path of a catalogue."""
    return WEB / "locale" / language / f"{domain}.po"


def read_catalogue(language: str, domain: str) -> Catalog:
    """Return the stored catalogue of a language; an empty one where there is none."""
    path = path_of(language, domain)
    source = path.read_bytes() if path.exists() else b""
    return read_po(BytesIO(source), locale=language, domain=domain)


def updated_catalogue(language: str, domain: str) -> Catalog:
    """Return the catalogue with what the code says now, and what of it was translated."""
    stored = read_catalogue(language, domain)
    catalog = Catalog(locale=language, domain=domain, fuzzy=False)
    for message, places in sorted(DOMAINS[domain]().items(), key=lambda item: (sorted(item[1])[0], str(item[0]))):
        # Files without lines: a catalogue changes when a text does.
        entry = catalog.add(message, locations=[(place, 0) for place in sorted(places)][:3])
        singular = message if isinstance(message, str) else message[0]
        known = stored.get(singular)
        if known is not None:
            text = known.string[0] if isinstance(known.string, tuple | list) else known.string
            entry.string = text if isinstance(message, str) else (text,)
    return catalog


def catalogue_text(catalog: Catalog) -> bytes:
    """Return a catalogue as the bytes of its file, without a date or a person: it changes with texts only."""
    out = BytesIO()
    write_po(out, catalog, width=0, include_lineno=False, omit_header=True)
    header = (
        "# Texts of Cinemeter. `python -m tests.repo.catalogues` adds what is new; translate here.\n"
        'msgid ""\nmsgstr ""\n'
        f'"Language: {catalog.locale}\\n"\n"Plural-Forms: {catalog.plural_forms}\\n"\n'
        '"MIME-Version: 1.0\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n'
        '"Content-Transfer-Encoding: 8bit\\n"\n\n'
    )
    return header.encode() + out.getvalue()


def main() -> int:
    """Write all catalogues; return 1 where a text lacks its translation."""
    missing = 0
    for language in LANGUAGES:
        if language == DEFAULT:
            continue
        for domain in DOMAINS:
            catalog = updated_catalogue(language, domain)
            path = path_of(language, domain)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(catalogue_text(catalog))
            for message in catalog:
                if message.id and not (message.string[0] if isinstance(message.string, tuple) else message.string):
                    missing += 1
                    print(f"{domain}.po: {message.id!r}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
