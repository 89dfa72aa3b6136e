"""What a check says: allowed, refused or to be decided by a moderator, and why."""

from dataclasses import dataclass
from enum import StrEnum


class CheckStage(StrEnum):
    """What is checked: the words of an order, its pictures and clips, or frames of its film."""

    PROMPT = "prompt"
    INPUT = "input"
    OUTPUT = "output"


class Outcome(StrEnum):
    """What a check decides."""

    ALLOW = "allow"
    REFUSE = "refuse"
    REVIEW = "review"


class Decision(StrEnum):
    """How a review ended: a moderator or the policy allowed or refused the order, or the order ended before that."""

    ALLOW = "allow"
    REFUSE = "refuse"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class CheckedText:
    """The words of one shot, and whether it has a picture or clip."""

    prompt: str  # without the style line
    negative_prompt: str = ""
    has_input: bool = False
    style: str = ""  # the line that the prompt begins with
    earlier: str = ""  # the words of the film that it edits or continues


@dataclass(frozen=True)
class Finding:
    """What a checker says of something that it does not allow, without the words that it matched."""

    outcome: Outcome
    category: str
    score: float  # 0 to 1; 1 for rules, which know no degrees
    rule: str
    version: str  # of the rules, or the model that a server names
    checker: str


_GRAVITY = {Outcome.ALLOW: 0, Outcome.REVIEW: 1, Outcome.REFUSE: 2}


def graver(first: Finding | None, second: Finding | None) -> Finding | None:
    """Return the graver of two findings: what is refused before what is reviewed; the first of equal ones."""
    if first is None or second is None:
        return first or second
    return second if _GRAVITY[second.outcome] > _GRAVITY[first.outcome] else first


class CheckFailed(Exception):
    """A checker did not answer, or answered nonsense; the message is a short code of what happened."""
