"""The checker that is always there: rules about combinations of words, shipped as data."""

import tomllib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from app.moderation.lexicon import Lexicon
from app.moderation.outcomes import CheckedText, Finding, Outcome
from app.moderation.words import CLAUSE_STEP, WORD_STEP

CHECKER = "rules"

# Words between two shots of a film: no scene goes that far, except where a rule says so.
SHOT_GAP = 20
# Letters on both sides of the seam of a style line and a prompt, where a word may be cut.
_SEAM = 40


@dataclass(frozen=True)
class WordPlaces:
    """Where the words of each class are in a text: begin and end in steps, in order; and the text's length in steps."""

    of: dict[str, list[tuple[int, int]]]
    length: int


@dataclass(frozen=True)
class Rule:
    """A combination of classes of words that is refused; the fields are described in rules.toml."""

    id: str
    category: str
    outcome: Outcome = Outcome.REFUSE
    all: tuple[frozenset[str], ...] = ()
    chain: tuple[frozenset[str], ...] = ()
    gap: int = 0  # words
    within: int = 0  # words; 0: anywhere
    film_within: int | None = None  # words; None: as within
    ordered: bool = False
    input: bool = False
    negative: frozenset[str] = frozenset()
    unless: str | None = None

    @property
    def classes(self) -> frozenset[str]:
        """All classes that the rule names."""
        return frozenset().union(*self.all, *self.chain, self.negative, filter(None, [self.unless]))

    @property
    def is_term(self) -> bool:
        """Whether words of one class are refused by themselves, wherever they are."""
        return len(self.all) == 1 and not (self.chain or self.input or self.negative)

    def may_apply(self, names: Container[str]) -> bool:
        """Return whether texts with words of these classes, in whatever order, could be refused."""
        needed = (*self.all, *self.chain, *([self.negative] if self.negative else []))
        return all(any(name in names for name in each) for each in needed)

    def applies(self, words: WordPlaces, *, has_input: bool = False, is_film: bool = False) -> bool:
        """Return whether the words of a shot's prompt, or those of a film, are what the rule refuses."""
        if (self.input and not has_input) or (self.unless in words.of and not has_input):
            return False
        places = [_places(words, names) for names in self.all]
        if not all(places):
            return False
        within = self.film_within if is_film and self.film_within is not None else self.within
        starts = [start for start, _ in places[0]] if places else []
        if self.chain:
            starts = self._chain_starts(words)
            if not starts:
                return False
        if self.ordered:
            return _are_in_order(places, within)
        return not within or len(places) + bool(self.chain) <= 1 or _are_near(starts, places, within)

    def _chain_starts(self, words: WordPlaces) -> list[int]:
        """Return where chains begin that the text has as a whole."""
        chains = {(start, start, end) for start, end in _places(words, self.chain[0])}
        for names in self.chain[1:]:
            places = _places(words, names)
            chains = {
                (first, start, end)
                for first, before, last in chains
                # A word written together with the one before has its place.
                for start, end in places[bisect_left(places, (before,)) : bisect_right(places, (self._reach(last),))]
            }
        return sorted({first for first, _, _ in chains})

    def _reach(self, last: int) -> int:
        return last + self.gap * WORD_STEP + 1


def _places(words: WordPlaces, names: frozenset[str]) -> list[tuple[int, int]]:
    return sorted(place for name in names for place in words.of.get(name, ()))


def _are_in_order(places: Sequence[Sequence[tuple[int, int]]], within: int) -> bool:
    begins = [[start for start, _ in each] for each in places]
    for start in begins[0]:
        at = start
        for each in begins[1:]:
            index = bisect_right(each, at)
            if index == len(each):
                return False
            at = each[index]
        if not within or at - start <= within * WORD_STEP:
            return True
    return False


def _are_near(starts: Sequence[int], places: Sequence[Sequence[tuple[int, int]]], within: int) -> bool:
    """Return whether a word of each class begins within reach of one of the starts."""
    reach = within * WORD_STEP
    begins = [[start for start, _ in each] for each in places]
    return any(
        all((index := bisect_left(each, at - reach)) < len(each) and each[index] <= at + reach for each in begins)
        for at in starts
    )


class RulesChecker:
    """Finds what the rules refuse in the words of an order. Pure: it waits for nothing and cannot fail."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """Read rules as in rules.toml. Raises ValueError for a rule with a class that has no words."""
        self.version = str(content["version"])
        if len(content["traditional"]) != len(content["simplified"]):
            raise ValueError("traditional and simplified must have as many characters")
        self._lexicon = Lexicon(
            content["classes"],
            harmless=content["harmless"],
            fillers=content["fillers"],
            simplified=dict(zip(content["traditional"], content["simplified"], strict=True)),
        )
        self.rules = tuple(_rule(each) for each in content["rules"])
        for rule in self.rules:
            unknown = rule.classes - content["classes"].keys()
            if unknown:
                raise ValueError(f"the rule {rule.id} names classes without words: {sorted(unknown)}")

    def check(self, *shots: CheckedText, review: Container[str] = ()) -> Finding | None:
        """Return what the rules refuse of the shots of a film, else what is to be reviewed, or None.

        `review` are the ids and categories of rules that call for a review in place of a refusal.

        Each distinct text is read once. Only where words of all classes of a rule are anywhere in the film, each shot
        is read with its style line, then the film as a whole: one scene may be cut into shots.
        """
        read = lru_cache(maxsize=None)(self._read)
        names: set[str] = set()
        for shot in shots:
            names.update(_styled(shot, read).of, read(shot.negative_prompt).of, read(shot.earlier).of)
        if not names:
            return None
        rules = [rule for rule in self.rules if rule.may_apply(names)]
        reviewed = [rule for rule in rules if _is_reviewed(rule, review)]
        refused = [rule for rule in rules if rule not in reviewed]
        for outcome, group in ((Outcome.REFUSE, refused), (Outcome.REVIEW, reviewed)):
            rule = self._first(group, shots, read) if group else None
            if rule is not None:
                return Finding(outcome, rule.category, 1.0, rule.id, self.version, CHECKER)
        return None

    def _first(
        self, rules: Sequence[Rule], shots: Sequence[CheckedText], read: Callable[[str], WordPlaces]
    ) -> Rule | None:
        """Return the first of some rules that the shots of a film, or the film as a whole, fall under."""
        for shot in shots:
            for rule in rules:
                if self._refuses(rule, shot, read):
                    return rule
        film = _joined([read(shot.prompt) for shot in shots] if len(shots) > 1 else [], SHOT_GAP * WORD_STEP)
        has_input = any(shot.has_input for shot in shots)
        for rule in rules if film.of else ():
            if not rule.negative and rule.applies(film, has_input=has_input, is_film=True):
                return rule
        return None

    def _refuses(self, rule: Rule, shot: CheckedText, read: Callable[[str], WordPlaces]) -> bool:
        if rule.negative and not self._negates(shot.negative_prompt, rule.negative, read):
            return False
        if rule.applies(_styled(shot, read), has_input=shot.has_input):
            return True
        # Of itself the film is no picture of anybody.
        if shot.earlier and not rule.negative and rule.applies(read(f"{shot.earlier}\n{shot.prompt}")):
            return True
        return rule.is_term and self._names(shot.negative_prompt, rule.all[0], read)

    def _negates(self, negative: str, names: frozenset[str], read: Callable[[str], WordPlaces]) -> bool:
        """Return whether an item of a negative prompt consists of words of these classes."""
        covered = {step for place in _places(read(negative), names) for step in range(*place)}
        return bool(covered) and any(
            item.words and all(covered.issuperset(range(*word)) for word in item.words)
            for item in self._lexicon.items(negative)
        )

    def _names(self, negative: str, names: frozenset[str], read: Callable[[str], WordPlaces]) -> bool:
        """Return whether one item of a negative prompt has a word of these classes."""
        places = _places(read(negative), names)
        return bool(places) and any(
            item.start <= start and end <= item.end for item in self._lexicon.items(negative) for start, end in places
        )

    def _read(self, text: str) -> WordPlaces:
        if not text:
            return WordPlaces({}, 0)
        reading = self._lexicon.read(text)
        places: dict[str, list[tuple[int, int]]] = {}
        for hit in reading.hits:
            places.setdefault(hit.name, []).append((hit.start, hit.end))
        return WordPlaces(places, reading.length)


def _joined(texts: Sequence[WordPlaces], gap: int) -> WordPlaces:
    """Return the words of texts one after the other, with a gap in steps between two of them."""
    places: dict[str, list[tuple[int, int]]] = {}
    begin = 0
    for text in texts:
        for name, each in text.of.items():
            places.setdefault(name, []).extend((start + begin, end + begin) for start, end in each)
        begin += text.length + gap
    return WordPlaces(places, begin)


def _styled(shot: CheckedText, read: Callable[[str], WordPlaces]) -> WordPlaces:
    """Return the words of a shot behind its style line, which is read once for all shots."""
    if not shot.style:
        return read(shot.prompt)
    style = read(shot.style)
    words = _joined([style, read(shot.prompt)], CLAUSE_STEP)
    # A word that is cut by the seam is in neither.
    tail = shot.style[-_SEAM:]
    border = read(tail).length
    for name, places in read(f"{tail}\n{shot.prompt[:_SEAM]}").of.items():
        for start, end in places:
            if start < border < end:
                words.of.setdefault(name, []).append((style.length + start - border, style.length + end - border))
    return words


def _is_reviewed(rule: Rule, review: Container[str]) -> bool:
    return rule.outcome is Outcome.REVIEW or rule.id in review or rule.category in review


def _rule(values: Mapping[str, Any]) -> Rule:
    groups = {name: tuple(_classes(each) for each in values.get(name, ())) for name in ("all", "chain")}
    facts = {"negative": _classes(values.get("negative", "")), "outcome": Outcome(values.get("outcome", "refuse"))}
    return Rule(**{**values, **groups, **facts})


def _classes(names: str) -> frozenset[str]:
    return frozenset(filter(None, names.split("|")))


@lru_cache(maxsize=1)
def shipped_rules() -> RulesChecker:
    """Return the checker with the rules of this version of the service."""
    return RulesChecker(tomllib.loads(files("app.moderation").joinpath("rules.toml").read_text(encoding="utf-8")))
