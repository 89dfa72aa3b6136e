"""Warnings about prompts: what a model with a closed vocabulary did not understand. They refuse nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Nouns that look like the shape that they are drawn as: a ball is a circle, a dog is not.
_LOOKS_LIKE_IT = frozenset(
    (
        "circle", "circles", "ball", "balls", "sphere", "spheres", "disc", "discs", "disk", "disks",
        "dot", "dots", "orb", "orbs", "round", "sun", "moon", "planet", "coin", "marble", "bubble",
        "balloon", "wheel", "ring", "globe", "square", "squares", "box", "boxes", "cube", "cubes",
        "block", "blocks", "rectangle", "rectangles", "tile", "tiles", "dice", "die", "triangle",
        "triangles", "pyramid", "pyramids", "cone", "cones", "wedge", "arrow", "arrows", "圆",
        "圆形",
        "圆圈", "球", "圆球", "小球", "球体", "圆点", "点", "圆盘", "气球",
        "太阳", "月亮", "行星", "星球", "轮子", "车轮", "正方形",
        "方形", "方块", "方", "盒子", "箱子", "正方体", "立方体", "长方形", "矩形",
        "骰子", "三角形", "三角", "金字塔", "圆锥",
    )
)  # fmt: skip

Terms = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PromptWarning:
    """One warning about the prompt of a shot. `code` is stable; `message` is a sentence.

    Codes: `unknown_subject`, `not_understood`, `nearest_words`.
    """

    code: str
    message: str
    field: str

    def as_dict(self) -> dict[str, str]:
        """Return the warning as JSON."""
        return {"code": self.code, "message": self.message, "field": self.field}


def prompt_warnings(resolved: Mapping[str, Any]) -> list[PromptWarning]:
    """Return the warnings of an order from its resolved facts; none for a model that reads every word."""
    shots: Sequence[Terms] = resolved.get("prompt_terms") or ()
    warnings = []
    for index, terms in enumerate(shots):
        shot = f"Shot {index + 1}: " if len(shots) > 1 else ""
        field = f"shots.{index}.prompt"
        if not knows_subject(terms):
            warnings.append(PromptWarning("unknown_subject", f"{shot}{_substitute(terms)}", field))
        lost = [f"“{term['said']}”" for term in terms if not term["taken"]]
        if lost:
            warnings.append(PromptWarning("not_understood", f"{shot}Not understood: {', '.join(lost)}.", field))
        near = [f"{term['said']} → {term['taken']}" for term in terms if is_near(term)]
        if near:
            warnings.append(PromptWarning("nearest_words", f"{shot}Nearest known words: {', '.join(near)}.", field))
    return warnings


def knows_subject(terms: Terms) -> bool:
    """Return whether each shape that is drawn was named in the prompt, by a word for something that looks like it."""
    shapes = [term for term in terms if term["kind"] == "shape"]
    return all((term["known"] and term["said"]) or term["said"] in _LOOKS_LIKE_IT for term in shapes)


def _substitute(terms: Terms) -> str:
    """Return what is drawn for a subject that the model does not know, as a sentence."""
    shapes = [term for term in terms if term["kind"] == "shape"]
    unknown = [term for term in shapes if not (term["known"] and term["said"]) and term["said"] not in _LOOKS_LIKE_IT]
    nouns = ", ".join(f"“{term['said']}”" for term in unknown if term["said"])
    drawn = " and ".join(f"a {term['taken']}" for term in unknown)
    subject = f"this model does not know {nouns}" if nouns else "no subject that this model knows"
    return f"{subject[:1].upper()}{subject[1:]}; it draws {drawn}."


def is_near(term: Mapping[str, Any]) -> bool:
    """Return whether a term is not what was written: `dog → circle`, but not `squares → square`."""
    said, taken = term["said"], term["taken"]
    return bool(said and taken and not term["known"] and not said.startswith(taken))
