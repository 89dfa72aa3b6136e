"""Ask a server of OpenAI's `/v1/moderations` shape; whatever it does, the answer comes within the policy's time."""

import asyncio
import json
import logging
from typing import Any

from app.moderation.outcomes import CheckFailed, Finding, Outcome
from app.moderation.policy import HttpPolicy
from app.net import Egress, PostResult, Sender

CHECKER = "http"

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
        answer = asyncio.run(self._post(text))
        if answer.status is None:
            raise CheckFailed(str(answer.fault))
        if answer.status != 200:
            raise CheckFailed(f"status_{answer.status}")
        try:
            return self._read(json.loads(answer.body))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise CheckFailed("bad_answer") from error

    async def _post(self, text: str) -> PostResult:
        policy = self._policy
        body = {"input": text} | ({} if policy.model is None else {"model": policy.model})
        headers = {"Content-Type": "application/json"}
        if policy.key.get_secret_value():
            headers["Authorization"] = f"Bearer {policy.key.get_secret_value()}"
        # The operator's own server: usually at a private address, which no customer can name.
        egress = Egress(allow_private=True, strict_urls=False)
        async with Sender(egress, seconds=policy.timeout_seconds) as sender:
            return await sender.post(policy.url, json.dumps(body).encode(), headers)

    def _read(self, content: Any) -> tuple[Finding | None, str]:
        result, model = content["results"][0], str(content.get("model", ""))[:200]
        flagged, scores = result["flagged"], result.get("category_scores", {})
        if not isinstance(flagged, bool):
            raise TypeError("flagged is no boolean")
        named = [str(name) for name, is_named in result["categories"].items() if is_named]
        counted = [name for name in named if not self._policy.categories or name in self._policy.categories]
        if not flagged or (self._policy.categories and not counted):
            return None, model
        by_score = {name: min(1.0, max(0.0, float(scores.get(name, 1.0)))) for name in counted or ["flagged"]}
        category = max(by_score, key=lambda name: by_score[name])
        finding = Finding(Outcome.REFUSE, category[:100], by_score[category], category[:100], model, CHECKER)
        return finding, model
