"""Split a plain text into words, and say how far they are from each other."""

import re
from bisect import bisect_right
from collections import defaultdict
from typing import NamedTuple

from app.moderation.plain_text import is_chinese, split_tokens, word_form

# A word is about two Chinese characters long: distances count halves of a word.
WORD_STEP = 2
CHARACTER_STEP = 1
# Sentences are apart by words more, clauses by half of one; within a disguised word no sign is either.
SENTENCE_STEP = 2 * WORD_STEP
CLAUSE_STEP = 1
_PAUSE = re.compile("[.;!?](?=[\\s\u3400-\u9fff])|\u3002|[,:](?=[\\s\u3400-\u9fff])|[\n\u3001]")
_SENTENCE_ENDS = frozenset(".;!?\u3002")
_ITEM_END = re.compile("[,;|\n\u3001\u3002]")
_ITEM_FILLERS = frozenset(("a", "the", "any", "all", "of", "some", "her", "his", "their", "wearing"))


class Words(NamedTuple):
    """The words of a plain text, and where each begins, in steps (`WORD_STEP`)."""

    plain: str
    tokens: list[tuple[str, int]]  # with the place of the first character
    forms: list[str]  # "" for Chinese ones
    steps: list[int]
    length: int  # in steps


class Item(NamedTuple):
    """An item of a list of words, as negative prompts are: the places of its words, in steps."""

    start: int
    end: int
    words: tuple[tuple[int, int], ...]  # without numbers and "the", "any", …


def read_words(plain: str) -> Words:
    """Return the words of a plain text."""
    tokens = split_tokens(plain)
    form_of = {token: "" if is_chinese(token) else word_form(token) for token in {token for token, _ in tokens}}
    forms = [form_of[token] for token, _ in tokens]
    pauses = _PAUSE.finditer(plain)
    pause = next(pauses, None)
    steps, step = [], 0
    for (token, begin), form in zip(tokens, forms, strict=True):
        longest = 0
        while pause is not None and pause.start() < begin:
            longest = max(longest, SENTENCE_STEP if pause[0] in _SENTENCE_ENDS else CLAUSE_STEP)
            pause = next(pauses, None)
        step += longest
        steps.append(step)
        step += _length(token, form)
    return Words(plain, tokens, forms, steps, step)


def split_items(words: Words) -> list[Item]:
    """Return the items of a list of words that commas or new lines part."""
    ends = [match.start() for match in _ITEM_END.finditer(words.plain)]
    members: dict[int, list[int]] = defaultdict(list)
    for at, (_, begin) in enumerate(words.tokens):
        members[bisect_right(ends, begin)].append(at)
    items = []
    for places in members.values():
        spans = {
            at: (words.steps[at], words.steps[at] + _length(words.tokens[at][0], words.forms[at])) for at in places
        }
        counted = [at for at in places if not (words.tokens[at][0] in _ITEM_FILLERS or words.tokens[at][0].isdigit())]
        items.append(Item(spans[places[0]][0], spans[places[-1]][1], tuple(spans[at] for at in counted)))
    return items


def _length(token: str, form: str) -> int:
    return WORD_STEP if form else CHARACTER_STEP * len(token)
