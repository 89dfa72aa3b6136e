"""The words the demo model was trained on, and the one sentence form it reads. Standard library only."""

from dataclasses import dataclass

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (216, 36, 36),
    "orange": (245, 136, 16),
    "yellow": (245, 222, 50),
    "green": (36, 160, 64),
    "blue": (36, 76, 216),
    "purple": (140, 48, 184),
    "white": (244, 244, 244),
    "black": (14, 14, 14),
}
"""Colours of objects, as sRGB bytes."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {**COLORS, "gray": (128, 128, 128)}
"""Colours of backgrounds, as sRGB bytes; an object never has its background's colour."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle")

MOTIONS: dict[str, str] = {
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "still": "stays still",
    "bounce": "bounces",
    "orbit": "moves in a circle",
    "grow": "grows",
    "shrink": "shrinks",
}
"""Motions and the words of the sentence that ask for them."""

SIZES: tuple[str, ...] = ("small", "", "big")
SPEEDS: tuple[str, ...] = ("slowly", "", "quickly")
"""Words for size and speed; the empty word is the medium one, which sentences leave out."""

SIZELESS: frozenset[str] = frozenset({"grow", "shrink"})
SPEEDLESS: frozenset[str] = frozenset({"still"})
"""Motions whose sentence has no size word, or no speed word."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene: words only, each from the tables above."""

    color: str
    shape: str
    motion: str
    size: str = ""
    speed: str = ""

    def words(self) -> str:
        """Return the clause that asks for this object, such as "a big red circle moves left slowly"."""
        size = "" if self.motion in SIZELESS else self.size
        speed = "" if self.motion in SPEEDLESS else self.speed
        return " ".join(word for word in ("a", size, self.color, self.shape, MOTIONS[self.motion], speed) if word)


@dataclass(frozen=True)
class Scene:
    """One or two objects on a background. Of two, the first is at the left, or above in an upright picture."""

    background: str
    things: tuple[Thing, ...]

    def caption(self) -> str:
        """Return the sentence that the model reads."""
        return " and ".join(thing.words() for thing in self.things) + f" on a {self.background} background"


def vocabulary() -> tuple[str, ...]:
    """Return every word that a caption can have, in a fixed order; the tokenizer's table is built from it."""
    words: dict[str, None] = dict.fromkeys(("a", "and", "on", "background", *BACKGROUNDS, *SHAPES, *SIZES, *SPEEDS))
    for phrase in MOTIONS.values():
        words.update(dict.fromkeys(phrase.split()))
    return tuple(word for word in words if word)
