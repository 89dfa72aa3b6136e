"""Check the words of an order by every checker, one after the other; the first that refuses ends it."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.metrics import CHECKS
from app.moderation.http_checker import CHECKER as HTTP
from app.moderation.http_checker import HttpChecker
from app.moderation.outcomes import CheckedText, CheckFailed, CheckStage, Finding, Outcome, graver
from app.moderation.policy import moderation_policy
from app.moderation.rules import shipped_rules

log = logging.getLogger(__name__)

_WORD = re.compile(r"[\u3400-\u9fff]{1,5}|[^\W\u3400-\u9fff]+")
# The category of what could not be checked.
UNCHECKED = "unchecked"
# The code of a CheckFailed about a file of which no frame could be read.
NO_FRAMES = "no_frames"


@dataclass(frozen=True)
class TextCheck:
    """What the checkers say of the words of an order: what stands against it, and by which versions it was checked."""

    finding: Finding | None
    checked_by: str  # "rules 2026-11-30, http omni-moderation-latest"


def check_rules(texts: Sequence[CheckedText], *, strict: bool = False) -> TextCheck:
    """Check words by the shipped rules alone, which wait for nothing.

    `strict`: for an account of that level, to which everything is refused that others have reviewed.
    """
    rules = shipped_rules()
    finding = rules.check(*texts, review=moderation_policy().rules.review)
    return TextCheck(without_review(finding) if strict else finding, f"rules {rules.version}")


def without_review(finding: Finding | None) -> Finding | None:
    """Return a finding about an order of a strict account: refused in place of reviewed."""
    if finding is None or finding.outcome is not Outcome.REVIEW:
        return finding
    return replace(finding, outcome=Outcome.REFUSE)


def count_words(texts: Sequence[CheckedText]) -> int:
    """Return about how many words checkers have to read: each style line counts once, five Chinese characters as one.

    The words of the film that an order edits count nothing: its own order has paid for them.
    """
    parts = dict.fromkeys(text.style for text in texts)
    negatives = dict.fromkeys(text.negative_prompt for text in texts)
    return sum(len(_WORD.findall(part)) for part in (*parts, *negatives, *(text.prompt for text in texts)))


def has_server() -> bool:
    """Return whether the operator's policy names a server, which `check_server` waits for."""
    return moderation_policy().http is not None


# What becomes of an order that the server did not check.
ON_FAILURE = {"open": Outcome.ALLOW, "closed": Outcome.REFUSE, "review": Outcome.REVIEW}


def check_server(texts: Sequence[CheckedText], before: TextCheck, *, strict: bool = False) -> TextCheck:
    """Check words at the policy's server, after `before`; negative prompts say what is not to be seen, and stay here.

    Where the server does not answer, the finding is of the category `unchecked`, with the outcome of the policy.
    """
    policy = moderation_policy().http
    if policy is None:
        return before
    categories = moderation_policy().strict.categories if strict else None
    try:
        finding, model = HttpChecker(policy, strict=categories).check(_sent_text(texts))
        count_check(CheckStage.PROMPT, HTTP, None)
    except CheckFailed as failure:
        count_check(CheckStage.PROMPT, HTTP, str(failure))
        log.warning("The moderation server did not check an order (%s): policy %s", failure, policy.on_failure)
        finding = Finding(ON_FAILURE[policy.on_failure], UNCHECKED, 0.0, str(failure), "", HTTP)
        finding, model = without_review(finding) if strict else finding, UNCHECKED
    return TextCheck(graver(before.finding, finding), f"{before.checked_by}, {HTTP} {model}".rstrip())


def count_check(stage: CheckStage, checker: str, failure: str | None) -> None:
    """Count an answer of a checker, or its failure: the code of a CheckFailed.

    A file without frames was not seen by it, so that is no failure of the checker.
    """
    if failure != NO_FRAMES:
        result = "answered" if failure is None else "timeout" if failure == "timeout" else "failed"
        CHECKS.labels(stage, checker, result).inc()


def _sent_text(texts: Sequence[CheckedText]) -> str:
    """Return the words that a server reads: of the film before, the style line and each prompt, each once."""
    parts = (part for text in texts for part in (text.earlier, text.style, text.prompt) if part)
    return "\n".join(dict.fromkeys(parts))
