"""Ask a server of OpenAI's `/v1/moderations` shape; whatever it does, the answer comes within the policy's time."""

import asyncio
import json
import logging
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

    def __init__(self, policy: HttpPolicy) -> None:
        self._policy = policy

    def check(self, text: str) -> tuple[Finding | None, str]:
        """Return what the server refuses of a text, or None, and the model that it names.

        Call it from a thread without a running event loop and without a database session in use. Raises CheckFailed
        when the server hangs, fails, or answers what is no answer.
        """
        pieces = _pieces(text)
        calls = [pieces[at : at + CALL_PIECES_MAX] for at in range(0, len(pieces), CALL_PIECES_MAX)]
        answers = [
            self._read(answer, len(call)) for call, answer in zip(calls, asyncio.run(self._post(calls)), strict=True)
        ]
        return next((each for each in answers if each[0] is not None), answers[0])

    async def _post(self, calls: list[list[str]]) -> list[PostResult]:
        policy = self._policy
        model = {} if policy.model is None else {"model": policy.model}
        bodies = [json.dumps({"input": each if len(each) > 1 else each[0]} | model).encode() for each in calls]
        headers = {"Content-Type": "application/json"}
        if policy.key.get_secret_value():
            headers["Authorization"] = f"Bearer {policy.key.get_secret_value()}"
        # The operator's own server: usually at a private address, which no customer can name.
        egress = Egress(allow_private=True, strict_urls=False, proxy=get_settings().egress_proxy)
        async with Sender(egress, seconds=policy.timeout_seconds) as sender:
            return await asyncio.gather(*(sender.post(policy.url, body, headers) for body in bodies))

    def _read(self, answer: PostResult, count: int) -> tuple[Finding | None, str]:
        """Return what an answer refuses, or None, and its model. Raises CheckFailed for what is no answer."""
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
        worst = max((self._refused(result) for result in results), key=lambda each: each[0])
        if not worst[1]:
            return None, model
        return Finding(Outcome.REFUSE, worst[1], worst[0], worst[1], model, CHECKER), model

    def _refused(self, result: Any) -> tuple[float, str]:
        """Return the highest score of a result's categories that count, and the category; -1 and none for none."""
        flagged, scores = result["flagged"], result.get("category_scores") or {}
        if not isinstance(flagged, bool):
            raise TypeError("flagged is no boolean")
        named = [_name(name, _NAME_MAX) for name, is_named in result["categories"].items() if is_named]
        counted = [name for name in named if not self._policy.categories or name in self._policy.categories]
        if not flagged or (self._policy.categories and not counted):
            return -1.0, ""
        return max((min(1.0, max(0.0, float(scores.get(name, 1.0)))), name) for name in counted or ["flagged"])


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
