"""The checker that is always there: rules about combinations of words, shipped as data."""

import tomllib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from app.moderation.lexicon import WORD_STEP, Lexicon
from app.moderation.outcomes import CheckedText, Finding, Outcome

CHECKER = "rules"

# Where the words of each class begin in a text, in steps and in order.
ClassPlaces = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Rule:
    """A combination of classes of words that is refused; the fields are described in rules.toml."""

    id: str
    category: str
    all: tuple[frozenset[str], ...]
    within: int = 0  # words; 0: anywhere
    ordered: bool = False
    input: bool = False
    negative: str | None = None

    def applies(self, words: ClassPlaces, *, has_input: bool, negative: ClassPlaces) -> bool:
        """Return whether the words of a text, and of its negative prompt, are what the rule refuses."""
        if (self.input and not has_input) or (self.negative is not None and self.negative not in negative):
            return False
        places = [sorted(place for name in names for place in words.get(name, ())) for names in self.all]
        if not all(places):
            return False
        if self.ordered:
            return self._are_in_order(places)
        return len(places) == 1 or not self.within or self._are_together(places)

    def _are_in_order(self, places: Sequence[Sequence[int]]) -> bool:
        for start in places[0]:
            at = start
            for each in places[1:]:
                index = bisect_right(each, at)
                if index == len(each):
                    return False
                at = each[index]
            if not self.within or at - start <= self.within * WORD_STEP:
                return True
        return False

    def _are_together(self, places: Sequence[Sequence[int]]) -> bool:
        """Return whether a word of each class lies within reach of one of the first."""
        reach = self.within * WORD_STEP
        return any(
            all((index := bisect_left(each, at - reach)) < len(each) and each[index] <= at + reach for each in places)
            for at in places[0]
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
            unknown = {*frozenset().union(*rule.all), *filter(None, [rule.negative])} - content["classes"].keys()
            if unknown:
                raise ValueError(f"the rule {rule.id} names classes without words: {sorted(unknown)}")

    def check(self, text: CheckedText) -> Finding | None:
        """Return what the rules refuse of a text, or None.

        A negative prompt is checked by itself too: what it names belongs to an order all the same.
        """
        words, negative = self._places(text.prompt), self._places(text.negative_prompt)
        for rule in self.rules:
            in_prompt = rule.applies(words, has_input=text.has_input, negative=negative)
            if in_prompt or (rule.negative is None and rule.applies(negative, has_input=False, negative={})):
                return Finding(Outcome.REFUSE, rule.category, 1.0, rule.id, self.version, CHECKER)
        return None

    def _places(self, text: str) -> ClassPlaces:
        places: dict[str, list[int]] = {}
        for hit in self._lexicon.hits(text) if text else ():
            places.setdefault(hit.name, []).append(hit.start)
        return places


def _rule(values: Mapping[str, Any]) -> Rule:
    classes = tuple(frozenset(str(each).split("|")) for each in values["all"])
    return Rule(**{**values, "all": classes})


@lru_cache(maxsize=1)
def shipped_rules() -> RulesChecker:
    """Return the checker with the rules of this version of the service."""
    return RulesChecker(tomllib.loads(files("app.moderation").joinpath("rules.toml").read_text(encoding="utf-8")))
