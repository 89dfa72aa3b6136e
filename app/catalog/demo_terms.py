"""Understand any prompt as a scene of the demo model: known words as they are, others by the nearest known one.

Prompts are English or Chinese; Chinese words are read as English ones (`app.catalog.demo_chinese`).

Pure and quick, so that the API can answer `resolved.prompt_terms` before anything is rendered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from app.catalog.demo_chinese import cut, is_chinese, name_backdrop
from app.catalog.demo_synonyms import MOVING, SYNONYMS, TYPICAL
from app.catalog.demo_words import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES, SPEEDS, Scene, Thing, vocabulary
from app.catalog.models import VideoModel

_PLACES = frozenset(
    (
        "on", "over", "in", "above", "against", "across", "under", "beneath", "with",
        "through", "before", "behind", "onto", "at", "inside", "into",
    )
)  # fmt: skip
_BACKDROPS = frozenset(
    ("background", "backgrounds", "backdrop", "ground", "screen", "canvas", "wall", "field", "floor", "sky")
)
_FILLER = frozenset(
    (
        "while", "where", "which", "whose", "their", "there", "these", "those", "other", "every", "after", "under",
        "until", "about", "would", "could", "should",
    )
)  # fmt: skip
"""Words that are no misspelling of a colour."""
_COUNTS = frozenset(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many", "several"))
"""Words that are no misspelling of a shape ("three" of "tree"), and that the model does not follow."""

_SILENT = frozenset(
    (
        "an", "the", "this", "that", "it", "its", "is", "are", "was", "were", "be", "being", "been",
        "has", "have", "of", "to", "from", "by", "for", "as", "or", "but", "not", "no", "then", "than",
        "so", "some", "one", "film", "video", "clip", "scene", "shot", "picture", "image", "animation",
        "shows", "showing", "show", "along", "away", "toward", "towards", "next", "off", "out", "very",
    )
).union(_PLACES, _BACKDROPS, _FILLER, vocabulary())  # fmt: skip
"""Words that decide nothing, and of which nobody expects that they do."""

_CONTRAST = {"white": "black", "gray": "black", "yellow": "blue", "orange": "blue"}
"""Colour that an object takes when its own is the background's; else white."""


@dataclass(frozen=True)
class Term:
    """One word of the prompt and the model's word for it.

    `said`: the word of the prompt, or "" where the prompt has none. `taken`: the model's word. `kind`:
    color, background, shape, motion, size or speed. `known`: whether it is the model's own word, not the nearest one.
    """

    said: str
    taken: str
    kind: str
    known: bool

    def as_dict(self) -> dict[str, str | bool]:
        """Return the term as JSON."""
        return {"said": self.said, "taken": self.taken, "kind": self.kind, "known": self.known}


@dataclass(frozen=True)
class ParsedPrompt:
    """What the demo model makes of a prompt: the sentence it reads, the scene, and the words behind it."""

    prompt: str
    scene: Scene
    terms: tuple[Term, ...]
    ignored: tuple[str, ...] = ()  # words of the prompt that decided nothing, although they may have been meant to


@dataclass(frozen=True)
class _Hit:
    """A term, its place in the prompt, and whether it counts only where no other word has the same kind."""

    term: Term
    place: int
    weak: bool = False


@dataclass
class _Draft:
    """A thing whose words are still being collected: the hits by kind."""

    hits: dict[str, _Hit]

    def word(self, kind: str) -> str | None:
        """Return the model's word for a kind, or None where the prompt has none."""
        return self.hits[kind].term.taken if kind in self.hits else None


_KINDS: dict[str, tuple[str, ...]] = {
    "color": tuple(BACKGROUNDS),
    "shape": SHAPES,
    "size": tuple(word for word in SIZES if word),
    "speed": tuple(word for word in SPEEDS if word),
}
_OWN: dict[str, tuple[str, str]] = {
    **{word: (kind, word) for kind, table in _KINDS.items() for word in table},
    **{phrase.split()[-1]: ("motion", motion) for motion, phrase in MOTIONS.items() if motion != "orbit"},
}
_LONG_WORDS = tuple(word for word in (*_OWN, *SYNONYMS, *MOVING) if len(word) > 3)


def parse_prompt(prompt: str) -> ParsedPrompt:
    """Read a prompt as a scene of one or two shapes. It never fails: unknown and missing words get a usual one.

    Returns the sentence the model was trained to read, the scene, and one term per word that decided something, in the
    prompt's order, followed by what had to be assumed (with `said` empty).
    """
    read = list(_words(prompt))
    said, words = [each[0] for each in read], [each[1] for each in read]
    hits = [hit for index in range(len(words)) if (hit := _hit(words, index)) is not None]
    backdrop = _backdrop(words, hits)
    drafts = _drafts([hit for hit in hits if hit is not backdrop])
    used = [hit for draft in drafts for hit in draft.hits.values()]
    if backdrop is not None:
        used.append(replace(backdrop, term=replace(backdrop.term, kind="background")))
    scene, assumed = _settle(drafts, words, backdrop.term.taken if backdrop else None)
    # An English word stands for itself; a phrase ("in a circle") has been put together from several.
    terms = [
        replace(hit.term, said=said[hit.place]) if said[hit.place] != words[hit.place] else hit.term
        for hit in sorted(used, key=lambda hit: hit.place)
    ]
    ignored = [said[place] for place in _ignored(words, hits, used)]
    return ParsedPrompt(scene.caption(), scene, (*terms, *assumed), tuple(dict.fromkeys(ignored)))


def _words(prompt: str) -> Iterator[tuple[str, str]]:
    """Yield each word of a prompt as it is written, in lower case, and as it is read: in English."""
    for word in re.findall(r"[^\W\d_]+", name_backdrop(prompt.lower())):
        if is_chinese(word):
            yield from cut(word)
        else:
            yield word, word


def _ignored(words: list[str], hits: list["_Hit"], used: list["_Hit"]) -> list[int]:
    """Return the places of the words that decided nothing: unknown ones, and known ones that had no effect."""
    places = {hit.place: hit for hit in hits}
    effects = {(hit.term.kind.replace("background", "color"), hit.term.taken) for hit in used}
    ignored = []
    for place, word in enumerate(words):
        hit = places.get(place)
        if hit is None:
            if word not in _SILENT and (len(word) > 1 or is_chinese(word)):
                ignored.append(place)
        elif not hit.weak and (hit.term.kind.replace("background", "color"), hit.term.taken) not in effects:
            ignored.append(place)
    return ignored


def _hit(words: list[str], index: int) -> _Hit | None:
    """Return the term of one word of the prompt, or None."""
    word = words[index]
    before = words[max(index - 2, 0) : index]
    if word == "circle" and before == ["in", "a"]:
        return _Hit(Term("in a circle", "orbit", "motion", True), index)
    if word == "circles" and before[-1:] == ["in"]:
        return _Hit(Term("in circles", "orbit", "motion", False), index)
    entry = _look_up(word)
    if entry is None and len(word) > 4 and word not in _SILENT and word not in _COUNTS:
        near = get_close_matches(word, _LONG_WORDS, n=1, cutoff=0.8)
        entry = _look_up(near[0]) if near else None
    if entry is None:
        return None
    kind, known, weak = entry
    return _Hit(Term(word, known, kind, _OWN.get(word) == (kind, known)), index, weak)


def _look_up(word: str) -> tuple[str, str, bool] | None:
    """Return kind, known word and weakness for a word, its singular or its plain verb."""
    for ending in ("", "s", "es", "ing", "ed", "d"):
        form = word.removesuffix(ending)
        if form in _OWN:
            return (*_OWN[form], False)
        if form in MOVING:
            return "motion", MOVING[form], True
        if form in SYNONYMS:
            return (*SYNONYMS[form], False)
    return None


def _backdrop(words: list[str], hits: list[_Hit]) -> _Hit | None:
    """Return the hit that names the background: the last colour after "on" etc. or before a backdrop, else a place."""
    places = [hit for hit in hits if hit.term.kind == "background"]
    shapes = {hit.place for hit in hits if hit.term.kind == "shape"}
    colors = []
    for hit in hits:
        if hit.term.kind != "color":
            continue
        before = words[max(hit.place - 3, 0) : hit.place]
        after = words[hit.place + 1 : hit.place + 2]
        names_thing = bool(shapes & {hit.place + 1, hit.place + 2})
        if _BACKDROPS & set(after) or (_PLACES & set(before) and not names_thing):
            colors.append(hit)
    candidates = colors or places
    return candidates[-1] if candidates else None


def _drafts(hits: list[_Hit]) -> list[_Draft]:
    """Return up to two things, filled in the prompt's order."""
    drafts = [_Draft({})]
    for index, hit in enumerate(hits):
        kind = hit.term.kind
        if kind == "background" or (kind == "color" and hit.term.taken not in COLORS):
            continue
        # A second shape, or a colour or size on the way to one, begins the second thing: "… and a blue square".
        begins = kind in ("color", "size", "shape") and "shape" in drafts[-1].hits and len(drafts) == 1
        if begins and any(other.term.kind == "shape" for other in hits[index:]):
            drafts.append(_Draft({}))
        known = drafts[-1].hits.get(kind)
        if known is None or (known.weak and not hit.weak):
            drafts[-1].hits[kind] = hit
    return drafts


def _settle(drafts: list[_Draft], words: list[str], background: str | None) -> tuple[Scene, list[Term]]:
    """Fill in usual words, so that no object has its background's or its neighbour's colour."""
    assumed: list[Term] = []

    def assume(kind: str, word: str) -> str:
        assumed.append(Term("", word, kind, True))
        return word

    if background is None:
        background = assume(
            "background", "black" if any(draft.word("color") == "white" for draft in drafts) else "white"
        )
    things: list[Thing] = []
    for draft in drafts:
        used_colors = [background, *(thing.color for thing in things)]
        shape = draft.hits.get("shape")
        color = draft.word("color") or assume("color", _usual_color(words[shape.place] if shape else "", used_colors))
        if color in used_colors:
            near = _CONTRAST.get(color, "white")
            color = assume("color", next(name for name in (near, "white", "black", "blue") if name not in used_colors))
        things.append(
            Thing(
                color=color,
                shape=draft.word("shape") or assume("shape", "circle"),
                motion=draft.word("motion") or assume("motion", "still" if draft.word("speed") is None else "right"),
                size=draft.word("size") or "",
                speed=draft.word("speed") or "",
            )
        )
    return Scene(background, tuple(things)), assumed


def _usual_color(noun: str, used_colors: list[str]) -> str:
    """Return the colour of a thing whose prompt names none."""
    wished = [TYPICAL[noun]] if noun in TYPICAL else []
    return next(name for name in (*wished, "red", "blue", "yellow") if name not in used_colors)


def model_prompt(model: VideoModel, prompt: str) -> str:
    """Return the words that the model is given for a prompt: the prompt itself, unless its vocabulary is closed."""
    return parse_prompt(prompt).prompt if model.vocabulary == "demo" else prompt


def prompt_terms(model: VideoModel, prompts: list[str]) -> list[list[dict[str, Any]]] | None:
    """Return, per prompt, which of its words a closed vocabulary understood as what; None for an open one.

    Words that decided nothing come last, with `taken` and `kind` empty.
    """
    if model.vocabulary != "demo":
        return None
    parsed = [parse_prompt(prompt) for prompt in prompts]
    return [
        [term.as_dict() for term in (*each.terms, *(Term(word, "", "", False) for word in each.ignored))]
        for each in parsed
    ]
