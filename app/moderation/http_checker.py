"""Ask a server of OpenAI's `/v1/moderations` shape; whatever it does, the answer comes within the policy's time."""

import asyncio
import json
import logging
from collections.abc import Collection, Sequence
from typing import Any

from app.moderation.outcomes import CheckFailed, Finding, Outcome
from app.moderation.policy import HttpPolicy
from app.net import Egress, PostResult, Sender
from app.settings import get_settings

CHECKER = "http"
# Characters of one item of `input`, and items of one call: app.net reads no more of an answer than so many results.
PIECE_MAX = 16_000
CALL_PIECES_MAX = 4
# Characters of what a server may name: a category, its model.
_NAME_MAX = 100
_MODEL_MAX = 200
# Statuses of the 4xx that pass by themselves; the others are the operator's to mend.
_PASSING = frozenset((408, 429))

log = logging.getLogger(__name__)


class HttpChecker:
    """Checks text at the server of a policy."""

    def __init__(self, policy: HttpPolicy, *, strict: Collection[str] | None = None) -> None:
        """`strict` are the categories that count besides for an account of that level; None for other accounts."""
        self._policy = policy
        self._is_strict = strict is not None
        self._categories = frozenset((*policy.categories, *(strict or ()))) if policy.categories else frozenset()

    def check(self, text: str) -> tuple[Finding | None, str]:
        """Return what the server has against a text, or None, and the model that it names.

        Call it from a thread without a running event loop and without a database session in use. Raises CheckFailed
        when the server hangs, fails, or answers what is no answer.
        """
        pieces = _pieces(text)
        calls = [pieces[at : at + CALL_PIECES_MAX] for at in range(0, len(pieces), CALL_PIECES_MAX)]
        inputs = [call if len(call) > 1 else call[0] for call in calls]
        posted = self.ask(inputs, seconds=self._policy.timeout_seconds)
        answers = [self.read(answer, len(call)) for call, answer in zip(calls, posted, strict=True)]
        return max(answers, key=lambda each: rank(each[0]))

    def ask(self, inputs: Sequence[Any], *, seconds: float) -> list[PostResult]:
        """Send each input in a call of its own, all at once, and return the answers, each within `seconds`."""
        model = {} if self._policy.model is None else {"model": self._policy.model}
        return asyncio.run(self._post([json.dumps({"input": each} | model).encode() for each in inputs], seconds))

    async def _post(self, bodies: list[bytes], seconds: float) -> list[PostResult]:
        policy = self._policy
        headers = {"Content-Type": "application/json"}
        if policy.key.get_secret_value():
            headers["Authorization"] = f"Bearer {policy.key.get_secret_value()}"
        # The operator's own server: usually at a private address, which no customer can name.
        egress = Egress(allow_private=True, strict_urls=False, proxy=get_settings().egress_proxy)
        async with Sender(egress, seconds=seconds) as sender:
            return await asyncio.gather(*(sender.post(policy.url, body, headers) for body in bodies))

    def read(self, answer: PostResult, count: int) -> tuple[Finding | None, str]:
        """Return what an answer of so many results has against a text or picture, or None, and its model.

        Raises CheckFailed for what is no answer.
        """
        if answer.status is None:
            raise CheckFailed(str(answer.fault))
        if answer.status != 200:
            if 400 <= answer.status < 500 and answer.status not in _PASSING:
                log.error("The moderation server refuses our calls with status %s: mend its policy", answer.status)
            raise CheckFailed(f"status_{answer.status}")
        try:
            return self._worst(json.loads(answer.body), count)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise CheckFailed("bad_answer") from error

    def _worst(self, content: Any, count: int) -> tuple[Finding | None, str]:
        """Return the worst of an answer's results, of which there must be one for each piece of the text."""
        model, results = _name(content.get("model") or "", _MODEL_MAX), content["results"]
        if not isinstance(results, list) or len(results) != count:
            raise ValueError("the answer has not one result for each text")
        findings = [finding for result in results for finding in self._findings(result, model)]
        return max(findings, key=rank, default=None), model

    def _findings(self, result: Any, model: str) -> list[Finding]:
        """Return what a result has against its text, of the categories that count."""
        flagged, scores = result["flagged"], result.get("category_scores") or {}
        if not isinstance(flagged, bool):
            raise TypeError("flagged is no boolean")
        named = {_name(name, _NAME_MAX): bool(is_named) for name, is_named in result["categories"].items()}
        counted = {
            name: is_named for name, is_named in named.items() if not self._categories or name in self._categories
        }
        if flagged and not self._categories and not any(counted.values()):
            # A server that names no category.
            counted["flagged"] = True
        findings = []
        for name, is_named in counted.items():
            if self._policy.review_scores is None and not (flagged and is_named):
                continue
            score = min(1.0, max(0.0, float(scores.get(name, 1.0 if is_named else 0.0))))
            outcome = self._outcome(name, score)
            if outcome is not Outcome.ALLOW:
                findings.append(Finding(outcome, name, score, name, model, CHECKER))
        return findings

    def _outcome(self, name: str, score: float) -> Outcome:
        """Return what the policy says of a category that the server flags, or of its score where scores decide."""
        bounds = self._policy.review_scores
        if bounds is not None and score < bounds[0]:
            return Outcome.ALLOW
        is_reviewed = name in self._policy.review or (bounds is not None and score < bounds[1])
        return Outcome.REVIEW if is_reviewed and not self._is_strict else Outcome.REFUSE


def rank(finding: Finding | None) -> tuple[bool, float, str]:
    """Return by what findings are compared: what is refused before what is reviewed, then the score."""
    return (
        (False, -1.0, "") if finding is None else (finding.outcome is Outcome.REFUSE, finding.score, finding.category)
    )


def _name(value: Any, length: int) -> str:
    """Return a name that a server gives, which is stored, counted and shown. Raises ValueError for one that cannot."""
    name = str(value)[:length]
    # Neither NUL nor half of a pair can be stored, and a space is the only blank of a name.
    if not name.isprintable():
        raise ValueError("a name is not printable")
    return name


def _pieces(text: str) -> list[str]:
    """Cut a text into pieces of at most PIECE_MAX characters, after a line or a word where there is one."""
    pieces = []
    while len(text) > PIECE_MAX:
        ends = (text.rfind(blank, PIECE_MAX // 2, PIECE_MAX) for blank in "\n ")
        at = next((end for end in ends if end > 0), PIECE_MAX)
        pieces.append(text[:at])
        text = text[at:]
    return [*pieces, text]
