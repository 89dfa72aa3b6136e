"""Send pictures to a server of OpenAI's omni-moderation shape, each as a data URL in a call of its own."""

import base64
from collections.abc import Collection, Sequence
from pathlib import Path

from app.moderation.checker_interface import OnFailure, PictureAnswer, fingerprint_of
from app.moderation.http_checker import CHECKER, HttpChecker, rank
from app.moderation.outcomes import CheckFailed, Outcome
from app.moderation.picture_policy import PicturesPolicy
from app.moderation.policy import HttpPolicy
from app.net import PostResult


class HttpPictures:
    """The operator's server as a checker of pictures. OpenAI's takes one picture a call."""

    name = CHECKER

    def __init__(self, policy: HttpPolicy, pictures: PicturesPolicy, *, strict: Collection[str] | None = None) -> None:
        """`strict` are the categories that count besides for an account of that level; None for other accounts."""
        self._policy = policy
        self._checker = HttpChecker(policy, strict=strict)
        self.on_failure: OnFailure = policy.on_failure
        self.fingerprint = fingerprint_of(
            CHECKER,
            policy.model_dump(mode="json", exclude={"key", "timeout_seconds", "on_failure", "pictures"}),
            None if strict is None else sorted(strict),
            pictures.frames,
            pictures.side_max,
        )

    def check(
        self, files: Sequence[Sequence[Path]], folder: Path, *, seconds: float
    ) -> list[PictureAnswer | CheckFailed]:
        """Return what the server says of each file, or why it says nothing of it."""
        inputs = [[{"type": "image_url", "image_url": {"url": _data_url(frame)}}] for file in files for frame in file]
        posted = iter(self._checker.ask(inputs, seconds=min(seconds, self._policy.timeout_seconds)))
        return [self._worst([self._read(next(posted)) for _ in file]) for file in files]

    def _read(self, posted: PostResult) -> PictureAnswer | CheckFailed:
        try:
            return PictureAnswer(*self._checker.read(posted, 1))
        except CheckFailed as failure:
            return failure

    def _worst(self, frames: Sequence[PictureAnswer | CheckFailed]) -> PictureAnswer | CheckFailed:
        """Return the answer to a file. A frame that is refused outweighs those that could not be checked.

        A frame to be reviewed does so too, unless the policy refuses what could not be checked.
        """
        answers = [each for each in frames if isinstance(each, PictureAnswer)]
        failures = [each for each in frames if isinstance(each, CheckFailed)]
        worst = max(answers, key=lambda answer: rank(answer.finding), default=None)
        if worst is None or not failures:
            return worst or failures[0]
        if worst.finding is not None and (worst.finding.outcome is Outcome.REFUSE or self.on_failure != "closed"):
            return worst
        return failures[0]


def _data_url(frame: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(frame.read_bytes()).decode()
