"""The operator's picture classifier as a checker: its scores and the policy's thresholds decide."""

import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.confined import ConfinedError, run_confined
from app.moderation.checker_interface import OnFailure, PictureAnswer, fingerprint_of
from app.moderation.outcomes import CheckFailed, Finding, Outcome
from app.moderation.picture_policy import OnnxPolicy, PicturesPolicy

CHECKER = "onnx"
_ANSWER_BYTES = 2**20
# What a score may be beyond 0 and 1, by rounding.
_TOLERANCE = 1e-4


class _Answer(BaseModel):
    """The answer of the process that has run the model: untrusted input."""

    model_config = ConfigDict(extra="forbid")

    scores: list[list[float]]


class OnnxPictures:
    """A classifier that runs in a process of its own for each check."""

    name = CHECKER

    def __init__(self, policy: OnnxPolicy, pictures: PicturesPolicy) -> None:
        self._policy = policy
        digest = _file_digest(policy.model)
        self._version = policy.version or digest[:12]
        self.on_failure: OnFailure = policy.on_failure
        terms = policy.model_dump(
            mode="json", exclude={"model", "on_failure", "timeout_seconds", "memory_mib", "threads"}
        )
        self.fingerprint = fingerprint_of(CHECKER, digest, terms, pictures.frames, pictures.side_max)

    def check(
        self, files: Sequence[Sequence[Path]], folder: Path, *, seconds: float
    ) -> list[PictureAnswer | CheckFailed]:
        """Return what the labels with thresholds say of each file. Raises CheckFailed."""
        frames = [str(frame) for file in files for frame in file]
        scores = iter(self._scores(frames, folder, min(seconds, self._policy.timeout_seconds)))
        return [self._answer([next(scores) for _ in file]) for file in files]

    def _scores(self, frames: Sequence[str], folder: Path, seconds: float) -> list[list[float]]:
        policy = self._policy
        order = policy.model_dump(mode="json", include={"input_size", "layout", "mean", "std", "activation", "threads"})
        order |= {"model": str(policy.model.absolute()), "pictures": frames, "seconds": seconds}
        order |= {"memory_bytes": policy.memory_mib * 2**20}
        try:
            answer = run_confined(
                ["app.moderation.onnx_process"],
                folder,
                seconds=seconds,
                answer_bytes=_ANSWER_BYTES,
                input_text=json.dumps(order),
            )
            scores = _Answer.model_validate(answer).scores
        except ConfinedError as error:
            raise CheckFailed("timeout" if "too long" in str(error) else "crashed") from error
        except ValidationError as error:
            raise CheckFailed("bad_answer") from error
        if len(scores) != len(frames) or not all(self._is_answer(each) for each in scores):
            raise CheckFailed("bad_answer")
        return scores

    def _is_answer(self, scores: Sequence[float]) -> bool:
        """Return whether there is a probability for each label."""
        are_scores = all(math.isfinite(each) and -_TOLERANCE <= each <= 1 + _TOLERANCE for each in scores)
        return are_scores and len(scores) == len(self._policy.labels)

    def _answer(self, frames: Sequence[Sequence[float]]) -> PictureAnswer:
        """Return what stands against a file by the highest score of each label in its frames."""
        against: list[tuple[bool, float, str]] = []
        for number, label in enumerate(self._policy.labels):
            score = min(1.0, max(0.0, *(frame[number] for frame in frames)))
            is_refused = label.refuse is not None and score >= label.refuse
            if is_refused or (label.review is not None and score >= label.review):
                against.append((is_refused, score, label.name))
        if not against:
            return PictureAnswer(None, self._version)
        is_refused, score, name = max(against)
        outcome = Outcome.REFUSE if is_refused else Outcome.REVIEW
        return PictureAnswer(Finding(outcome, name, score, name, self._version, CHECKER), self._version)


@lru_cache(maxsize=4)
def _file_digest(path: Path) -> str:
    """Return the SHA-256 of a model, in hex; read once, as the policy is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
