"""Find stated ages under 18 in a plain text, in English and Chinese."""

import re
from collections.abc import Iterator

ADULT_AGE = 18

_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
    "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
)  # fmt: skip
_NUMBERS = {word: number for number, word in enumerate(_WORDS)}
_NUMBER = rf"\d{{1,3}}|{'|'.join(sorted(_WORDS, key=len, reverse=True))}"
_GAP = r"[^a-z0-9]{0,3}"
_YOUNG = r"(?:girl|boy|child|kid|daughter|son|student|pupil|female|male|teen)s?"
# Bounded repetitions only, so that the time grows with the text alone.
_ENGLISH = re.compile(
    rf"(?<![a-z0-9])(?:age{_GAP}(?:of{_GAP})?|aged{_GAP}(?:(?:about|around|only|just|barely){_GAP})?)"
    rf"(?P<before>{_NUMBER})(?![a-z0-9])"
    rf"|(?<![a-z0-9])(?P<number>{_NUMBER}){_GAP}"
    rf"(?:y(?:ea)?rs?{_GAP}(?:old|of{_GAP}age|{_YOUNG})|y{_GAP}o)(?![a-z0-9])"
    # "a girl, 14, on a beach"; "a girl, 16 mm film" is none.
    rf"|(?<![a-z0-9]){_YOUNG}, ?(?P<behind>\d{{1,2}})(?=[,.;)\n] ?(?![0-9])|$)"
)
_CHINESE = re.compile(r"(\d{1,3}|[零一二两三四五六七八九十]{1,4})[^\u3400-\u9fffa-z0-9]{0,3}周?岁")
_DIGITS = {character: number for number, character in enumerate("零一二三四五六七八九")} | {"两": 2}


def ages_under_18(plain: str) -> Iterator[int]:
    """Yield where a plain text states an age under 18."""
    for match in _ENGLISH.finditer(plain):
        number = match["before"] or match["number"] or match["behind"]
        if (int(number) if number.isdigit() else _NUMBERS[number]) < ADULT_AGE:
            yield match.start()
    if "岁" in plain:
        for match in _CHINESE.finditer(plain):
            age = int(match[1]) if match[1].isdigit() else _chinese_number(match[1])
            if age is not None and age < ADULT_AGE:
                yield match.start()


def _chinese_number(numeral: str) -> int | None:
    """Return the value of a numeral below a hundred, or None for what is none."""
    if "十" not in numeral:
        return _DIGITS[numeral] if len(numeral) == 1 else None
    tens, _, ones = numeral.partition("十")
    if len(tens) > 1 or len(ones) > 1 or "十" in ones:
        return None
    return _DIGITS.get(tens, 1) * 10 + _DIGITS.get(ones, 0)
