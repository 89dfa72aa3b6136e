"""Reduce text to plain letters, so that one spelling in the rules' data finds a word however it was disguised."""

import re
import unicodedata
from collections.abc import Mapping

# How many characters are remembered: a text may hold any of a million.
_REMEMBERED_MAX = 20_000
_CJK = "\u3400-\u9fff"
_TOKEN = re.compile(rf"[a-z0-9][a-z0-9*]*|[{_CJK}]+")
# Symbols that stand for a letter between letters, and those that do so before one too.
_INNER_SYMBOL = re.compile(r"(?<=[a-z0-9*])[@$!|+\u20ac\u00a1](?=[a-z0-9*])")
_FIRST_SYMBOL = re.compile(r"(?<![a-z0-9*@$])[@$](?=[a-z])")
_SYMBOLS = {"@": "a", "$": "s", "!": "i", "|": "i", "+": "t", "\u20ac": "e", "\u00a1": "i"}
# 1 and l stand for each other, so they are one letter here, in the rules' words as in the text.
_LETTER_FORMS = str.maketrans("l1034567892", "iioeasgtbgz")
_REPEATED = re.compile(r"(.)\1+")

_LOOKALIKES = {
    # Cyrillic
    "\u0430": "a", "\u0432": "b", "\u0433": "r", "\u0435": "e", "\u0454": "e", "\u0456": "i", "\u0457": "i",
    "\u0458": "j", "\u043a": "k", "\u043c": "m", "\u043d": "h", "\u043e": "o", "\u0440": "p", "\u0441": "c",
    "\u0442": "t", "\u0443": "y", "\u0445": "x", "\u0455": "s", "\u04bb": "h", "\u0501": "d", "\u051b": "q",
    "\u051d": "w", "\u04cf": "l", "\u0434": "d", "\u043f": "n", "\u0438": "u", "\u0451": "e",
    # Greek
    "\u03b1": "a", "\u03b2": "b", "\u03b3": "y", "\u03b4": "d", "\u03b5": "e", "\u03b7": "n", "\u03b9": "i",
    "\u03ba": "k", "\u03bd": "v", "\u03bf": "o", "\u03c1": "p", "\u03c3": "o", "\u03c2": "s", "\u03c4": "t",
    "\u03c5": "u", "\u03c7": "x", "\u03c9": "w", "\u03bc": "u",
    # Latin letters that no decomposition reduces
    "\u0131": "i", "\u0142": "l", "\u00f8": "o", "\u00f0": "d", "\u0111": "d", "\u0127": "h", "\u00e6": "ae",
    "\u0153": "oe", "\u0251": "a", "\u0252": "a", "\u0261": "g", "\u0269": "i", "\u026a": "i", "\u0274": "n",
    "\u0280": "r", "\u0299": "b", "\u029c": "h", "\u029f": "l", "\u1d00": "a", "\u1d04": "c", "\u1d05": "d",
    "\u1d07": "e", "\u1d0a": "j", "\u1d0b": "k", "\u1d0d": "m", "\u1d0f": "o", "\u1d18": "p", "\u1d1b": "t",
    "\u1d1c": "u", "\u1d20": "v", "\u1d21": "w", "\u1d22": "z", "\ua731": "s", "\u0262": "g", "\u028f": "y",
    "\u0253": "b", "\u0257": "d", "\u0180": "b", "\u0268": "i", "\u0289": "u", "\u0275": "o", "\u01dd": "e",
    "\u0259": "e", "\u0258": "e", "\u0271": "m", "\u0272": "n", "\u027e": "r", "\u0282": "s", "\u0288": "t",
    "\u0290": "z", "\u0565": "t", "\u0570": "h", "\u0578": "n", "\u057d": "u", "\u0585": "o", "\u0581": "g",
}  # fmt: skip


class _PlainCharacters(dict[int, str]):
    """The plain form of each character, by its code point; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        plain = _plain_character(chr(code))
        if len(self) < _REMEMBERED_MAX:
            self[code] = plain
        return plain


def _plain_character(character: str) -> str:
    """Return a character's compatibility form in lower case, without marks; nothing for what is invisible.

    One character at a time: to normalise a text with thousands of combining marks as a whole costs quadratic time.
    """
    boxed = _boxed_character(character)
    if boxed:
        return boxed
    if character.isspace():
        return character
    form = unicodedata.normalize("NFKC", character).casefold()
    if len(form) > 8:
        return " "  # a whole phrase in one character
    # Twice, as the compatibility form of one letter may be another that has marks.
    letters = unicodedata.normalize("NFD", form)
    plain = (_LOOKALIKES.get(each, each) for each in letters if unicodedata.category(each) not in _INVISIBLE)
    return "".join(plain)


_INVISIBLE = frozenset(("Mn", "Me", "Mc", "Cf", "Cc", "Co", "Cn"))
# Letters in circles and squares, white on black, and the halves of flags, by their first code points.
_BOXED = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6)


def _boxed_character(character: str) -> str:
    for first in _BOXED:
        if first <= ord(character) < first + 26:
            return chr(ord("a") + ord(character) - first)
    return ""


_plain_characters = _PlainCharacters()


def plain_text(text: str, replaced: Mapping[int, str] | None = None) -> str:
    """Return text in lower case, without accents, invisible characters, look-alikes and symbols for letters.

    `replaced` are further characters by their code points: traditional Chinese ones by simplified ones. Its time is
    proportional to the length of the text.
    """
    plain = text.translate(_plain_characters)
    if replaced:
        plain = plain.translate(replaced)
    plain = _INNER_SYMBOL.sub(lambda match: _SYMBOLS[match[0]], plain)
    return _FIRST_SYMBOL.sub(lambda match: _SYMBOLS[match[0]], plain)


def word_form(word: str) -> str:
    """Return a plain word with its digits as the letters that they stand for; a number stays one."""
    return word if word.isdigit() else word.translate(_LETTER_FORMS)


def without_repeats(form: str) -> str:
    """Return a form with each letter that is repeated once only."""
    return _REPEATED.sub(r"\1", form)


def split_tokens(plain: str) -> list[tuple[str, int]]:
    """Return the words and the runs of Chinese characters of a plain text, in order, and where each begins."""
    return [(match[0], match.start()) for match in _TOKEN.finditer(plain)]


def is_chinese(token: str) -> bool:
    """Return whether a token is of Chinese characters."""
    return "\u3400" <= token[0] <= "\u9fff"
