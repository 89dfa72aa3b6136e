"""Find the words of the rules' classes in a text: exact look-ups only, so that the time grows with the text alone."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, combinations, pairwise
from typing import NamedTuple

from app.moderation.ages import ages_under_18
from app.moderation.plain_text import is_chinese, plain_text, without_repeats, word_form
from app.moderation.words import CHARACTER_STEP, WORD_STEP, Item, read_words, split_items

_CLAUSE_END = re.compile("[,.;:!?\n\u3001\u3002\uff0c\uff1b\uff1a\uff01\uff1f]")
# A word in which a letter is drawn out.
_STRETCHED = re.compile(r"(.)\1\1")
# A token that is this long is no word: words are looked for inside it.
_LONG_TOKEN = 18
_INSIDE_MIN = 4
_COMPOUND_MAX = 60


class Hit(NamedTuple):
    """A word of a class in a text: from where to where it goes, in steps (`WORD_STEP`)."""

    start: int
    end: int
    name: str  # of the class


class TextHits(NamedTuple):
    """What was found in a text: the hits in order, and how long the text is, in steps."""

    hits: list[Hit]
    length: int


class Lexicon:
    """The words of all classes, prepared to be looked up."""

    def __init__(
        self,
        classes: Mapping[str, Iterable[str]],
        *,
        harmless: Iterable[str],
        fillers: Iterable[str],
        simplified: Mapping[str, str],
    ) -> None:
        self._simplified = {ord(old): new for old, new in simplified.items()}
        self._words: dict[str, set[str]] = defaultdict(set)
        self._phrases: dict[str, list[tuple[list[str], str]]] = defaultdict(list)
        self._chinese: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, terms in [*classes.items(), ("harmless", harmless)]:
            for term in terms:
                self._add(name, term)
        self._fillers = {word_form(each) for each in fillers}
        self._starts = {word[:length] for word in self._words for length in range(1, len(word) + 1)}
        self._masked = {
            masked: classes for word, classes in self._words.items() for masked in _masked(word) if len(word) >= 3
        }
        self._unrepeated = {without_repeats(word): classes for word, classes in self._words.items()}
        self._inside: dict[str, list[str]] = defaultdict(list)
        for word in self._words:
            if len(word) >= _INSIDE_MIN:
                self._inside[word[:_INSIDE_MIN]].append(word)

    def _add(self, name: str, term: str) -> None:
        plain = plain_text(term, self._simplified)
        if any(is_chinese(each) for each in plain):
            self._chinese[plain[:2]].append((plain, name))
            return
        parts = [word_form(part) for part in plain.split()]
        if len(parts) > 1:
            self._phrases[parts[0]].append((parts, name))
        # Harmless phrases excuse only what is written as usual.
        if len(parts) == 1 or name != "harmless":
            self._words["".join(parts)].add(name)

    def read(self, text: str) -> TextHits:
        """Return the words of classes in a text, in order, without those within a harmless phrase."""
        plain, tokens, forms, steps, length = read_words(plain_text(text, self._simplified))
        hits = self._word_hits(forms, steps)
        hits |= self._part_hits(plain, tokens, forms, steps)
        hits |= self._chinese_hits(plain, tokens, steps)
        begins = [begin for _, begin in tokens]
        for place in ages_under_18(plain):
            at = steps[max(0, bisect_right(begins, place) - 1)]
            hits.add(Hit(at, at + WORD_STEP, "minor"))
        return TextHits(_without_harmless(sorted(hits)), length)

    def items(self, text: str) -> list[Item]:
        """Return the items of a list of words that commas or new lines part."""
        return split_items(read_words(plain_text(text, self._simplified)))

    def _word_hits(self, forms: Sequence[str], steps: Sequence[int]) -> set[Hit]:
        """Return the words and phrases that are written as such, and words within a token."""
        hits: set[Hit] = set()
        known: dict[str, frozenset[str]] = {}
        for at, form in enumerate(forms):
            if not form:
                continue
            names = known.get(form)
            if names is None:
                names = known[form] = frozenset(self._classes_of(form))
            for name in names:
                hits.add(Hit(steps[at], steps[at] + WORD_STEP, name))
            for parts, name in self._phrases.get(form, ()):
                end = at + len(parts)
                if forms[at + 1 : end - 1] == parts[1:-1] and forms[end - 1 : end] in ([parts[-1]], [f"{parts[-1]}s"]):
                    hits.add(Hit(steps[at], steps[at] + WORD_STEP * len(parts), name))
        return hits

    def _classes_of(self, form: str) -> set[str]:
        """Return the classes of the word, or the words, that a token is."""
        names = self._classes_of_word(form)
        if not names and _STRETCHED.search(form):
            names = self._unrepeated.get(without_repeats(form), names)
        if names or len(form) < 6:
            return names
        return self._classes_within(form) if len(form) >= _LONG_TOKEN else self._classes_of_compound(form)

    def _classes_of_word(self, form: str) -> set[str]:
        if "*" in form:
            return self._masked.get(form) or self._words.get(form.replace("*", ""), set())
        return self._words.get(form) or (self._words.get(form[:-1], set()) if form.endswith("s") else set())

    def _classes_of_compound(self, form: str) -> set[str]:
        """Return the classes of the words that a token is made of, where it is made of nothing else."""
        reached: dict[int, set[str]] = {0: set()}
        for start in range(len(form)):
            if start not in reached:
                continue
            for end in range(start + 1, len(form) + 1):
                word = form[start:end]
                if word in self._fillers or word in self._words:
                    reached.setdefault(end, set()).update(reached[start], self._words.get(word, ()))
                if word not in self._starts and len(word) > 6:
                    break
        return reached.get(len(form), set()) - {"harmless"}

    def _classes_within(self, form: str) -> set[str]:
        """Return the classes of the words anywhere in a token that is too long for a word."""
        names: set[str] = set()
        for start in range(len(form) - _INSIDE_MIN + 1):
            for word in self._inside.get(form[start : start + _INSIDE_MIN], ()):
                if form.startswith(word, start):
                    names |= self._words[word]
        return names - {"harmless"}

    def _part_hits(
        self, plain: str, tokens: Sequence[tuple[str, int]], forms: Sequence[str], steps: Sequence[int]
    ) -> set[Hit]:
        """Return the words that were cut into parts, by spaces or punctuation."""
        hits: set[Hit] = set()
        part_of = {form: form.translate(_DIGITS) for form in set(forms)}
        parts = [part_of[form] for form in forms]
        # Only what may begin or continue a word is worth a look at what is between.
        glued = [bool(part) and _are_glued(plain, *pair) for part, pair in zip(parts, pairwise(tokens), strict=False)]
        for first, is_glued in enumerate(glued):
            word, last = parts[first], first
            while is_glued and word and word in self._starts:
                last += 1
                word += parts[last]
                for name in self._words.get(word, ()):
                    hits.add(Hit(steps[first], steps[last] + WORD_STEP, name))
                is_glued = bool(parts[last]) and last < len(glued) and glued[last]
        return hits

    def _chinese_hits(self, plain: str, tokens: Sequence[tuple[str, int]], steps: Sequence[int]) -> set[Hit]:
        """Return the words of Chinese characters, with whatever stands between these."""
        hits: set[Hit] = set()
        for places in _chinese_runs(plain, tokens):
            run = "".join(tokens[place][0] for place in places)
            at = [step for place in places for step in range(steps[place], steps[place] + len(tokens[place][0]))]
            for start in range(len(run)):
                for word, name in self._chinese.get(run[start : start + 2], ()):
                    if len(word) == 2 or run.startswith(word, start):
                        hits.add(Hit(at[start], at[start + len(word) - 1] + CHARACTER_STEP, name))
                for _, name in self._chinese.get(run[start], ()):
                    hits.add(Hit(at[start], at[start] + CHARACTER_STEP, name))
        return hits


_DIGITS = str.maketrans("1034567892", "ioeasgtbgz")


def _masked(word: str) -> Iterator[str]:
    """Yield a word with one or two letters behind its first hidden by stars."""
    for count in (1, 2):
        for places in combinations(range(1, len(word)), count):
            if len(word) - count >= 2:
                yield "".join("*" if place in places else letter for place, letter in enumerate(word))


def _are_glued(plain: str, left: tuple[str, int], right: tuple[str, int]) -> bool:
    """Return whether two tokens may be parts of one word: joined by punctuation, or by spaces where one is a scrap."""
    between = plain[left[1] + len(left[0]) : right[1]]
    if between != " ":
        if len(between) > 4 or any(map(str.isalnum, between)):
            return False
        if not any(map(str.isspace, between)):
            return True
    if len(left[0]) <= 2 and len(right[0]) <= 2:
        return True
    return _is_scrap(left[0]) or _is_scrap(right[0])


def _is_scrap(token: str) -> bool:
    """Return whether a token is no word by itself: a letter, or letters without a vowel."""
    return token not in ("a", "i", "o") and token.isalpha() and not any(vowel in token for vowel in "aeiouy")


def _chinese_runs(plain: str, tokens: Sequence[tuple[str, int]]) -> Iterator[list[int]]:
    """Yield the places of tokens that are read together: over spaces and signs, but not from clause to clause.

    Between single characters the end of a clause is no end.
    """
    run: list[int] = []
    for place, (token, begin) in enumerate(tokens):
        if not is_chinese(token):
            continue
        if run:
            before, start = tokens[run[-1]]
            has_words = place - run[-1] > 1
            has_single = len(token) == 1 or len(before) == 1
            if has_words or not (has_single or _CLAUSE_END.search(plain, start + len(before), begin) is None):
                yield run
                run = []
        run.append(place)
    if run:
        yield run


def _without_harmless(hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits of classes that are not part of a harmless phrase."""
    excused = [hit for hit in hits if hit.name == "harmless"]
    starts = [hit.start for hit in excused]
    # How far the phrases reach that begin at a place or before it.
    ends = list(accumulate((hit.end for hit in excused), max))

    def is_excused(hit: Hit) -> bool:
        place = bisect_right(starts, hit.start)
        return place > 0 and ends[place - 1] >= hit.end

    return [hit for hit in hits if hit.name != "harmless" and not is_excused(hit)]
