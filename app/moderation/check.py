"""Check the words of an order by every checker, one after the other; the first that refuses decides."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.moderation.http_checker import CHECKER as HTTP
from app.moderation.http_checker import HttpChecker
from app.moderation.outcomes import CheckedText, CheckFailed, Finding, Outcome
from app.moderation.policy import moderation_policy
from app.moderation.rules import shipped_rules

log = logging.getLogger(__name__)

_WORD = re.compile(r"[\u3400-\u9fff]{1,5}|[^\W\u3400-\u9fff]+")
# The category of what could not be checked.
UNCHECKED = "unchecked"


@dataclass(frozen=True)
class TextCheck:
    """What the checkers say of the words of an order: what stands against it, and by which versions it was checked."""

    finding: Finding | None
    checked_by: str  # "rules 2026-11-30, http omni-moderation-latest"


def check_rules(texts: Sequence[CheckedText]) -> TextCheck:
    """Check words by the shipped rules alone, which wait for nothing."""
    rules = shipped_rules()
    return TextCheck(rules.check(*texts), f"rules {rules.version}")


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


def check_server(texts: Sequence[CheckedText], before: TextCheck) -> TextCheck:
    """Check words at the policy's server, after `before`; negative prompts say what is not to be seen, and stay here.

    Where the server does not answer, the finding is of the category `unchecked`: allowed or refused by the policy.
    """
    policy = moderation_policy().http
    if policy is None:
        return before
    try:
        finding, model = HttpChecker(policy).check(_sent_text(texts))
    except CheckFailed as failure:
        log.warning("The moderation server did not check an order (%s): policy %s", failure, policy.on_failure)
        outcome = Outcome.ALLOW if policy.on_failure == "open" else Outcome.REFUSE
        finding, model = Finding(outcome, UNCHECKED, 0.0, str(failure), "", HTTP), UNCHECKED
    return TextCheck(finding, f"{before.checked_by}, {HTTP} {model}".rstrip())


def _sent_text(texts: Sequence[CheckedText]) -> str:
    """Return the words that a server reads: of the film before, the style line and each prompt, each once."""
    parts = (part for text in texts for part in (text.earlier, text.style, text.prompt) if part)
    return "\n".join(dict.fromkeys(parts))
