"""Texts that scripts show: English ones stand in the scripts, those of other languages come with the page.

A script calls `say("Copied")` of `texts.js`, which looks the text up in the page. The English page carries none.
"""

import json
import re
from functools import lru_cache
from importlib.resources import files

from app.web.language import DEFAULT, language, translate

_CALL = re.compile(r'\bsay\("([^"]+)"\)')


@lru_cache(maxsize=1)
def texts_in_scripts() -> tuple[str, ...]:
    """Return the English texts that our scripts show."""
    folder = files("app.web").joinpath("static", "js")
    scripts = sorted(each.name for each in folder.iterdir() if each.name.endswith(".js"))
    texts = [text for name in scripts for text in _CALL.findall(folder.joinpath(name).read_text(encoding="utf-8"))]
    return tuple(dict.fromkeys(texts))


def script_texts() -> str:
    """Return the texts of our scripts in the request's language, by the English ones, as JSON; nothing in English."""
    if language() == DEFAULT:
        return ""
    return json.dumps({text: translate(text) for text in texts_in_scripts()}, ensure_ascii=False)
