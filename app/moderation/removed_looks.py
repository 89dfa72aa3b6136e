"""A checker of pictures for what looks like a film that was removed after a report: it is left to a moderator."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from sqlalchemy.orm import Session

from app.confined import ConfinedError, run_confined
from app.db import transaction
from app.moderation.checker_interface import OnFailure, PictureAnswer, fingerprint_of
from app.moderation.outcomes import CheckFailed, Finding, Outcome
from app.moderation.policy import ModerationPolicy, moderation_policy
from app.provenance.blocked_looks import blocked_version, find_blocked_look

CHECKER = "removed"
CATEGORY = "removed_lookalike"
# How frames are compared: PDQ, by the distance that its authors advise.
_VERSION = "pdq-31"
_ANSWER_BYTES = 2**20


class _Answer(BaseModel):
    """The answer of the process that has read the frames: untrusted input."""

    model_config = ConfigDict(extra="forbid")

    hashes: list[Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]]


class RemovedLooks:
    """Compares frames with those of removed films."""

    name = CHECKER
    # A look-alike is no proof, so an order does not wait for a check of it that fails.
    on_failure: OnFailure = "open"

    def __init__(self, policy: ModerationPolicy, version: str) -> None:
        """`version` is that of the removed films: with each further one, files are compared anew."""
        pictures = policy.pictures
        self._outcome = lookalike_outcome(policy)
        self.fingerprint = fingerprint_of(CHECKER, version, self._outcome, pictures.frames, pictures.side_max)

    def check(
        self, files: Sequence[Sequence[Path]], folder: Path, *, seconds: float
    ) -> list[PictureAnswer | CheckFailed]:
        """Return whether a frame of each file looks like one of a removed film. Raises CheckFailed."""
        hashes = iter(_hashes([str(frame) for file in files for frame in file], folder, seconds))
        owns = [b"".join(next(hashes) for _ in file) for file in files]
        with transaction() as session:
            return [PictureAnswer(_finding(session, own, self._outcome), _VERSION) for own in owns]


def lookalike_outcome(policy: ModerationPolicy) -> Outcome:
    """Return what becomes of what looks like a removed film.

    Without a word of the policy a moderator decides, where there is a policy; where there is none, nobody may be there
    to decide, and it is refused.
    """
    return Outcome(policy.pictures.lookalikes or ("review" if policy.model_fields_set else "refuse"))


def removed_looks(session: Session) -> RemovedLooks | None:
    """Return the checker, or None while nothing was removed or the policy allows look-alikes."""
    policy = moderation_policy()
    version = None if lookalike_outcome(policy) is Outcome.ALLOW else blocked_version(session)
    return None if version is None else RemovedLooks(policy, version)


def check_frame_hashes(session: Session, frame_hashes: bytes) -> Finding | None:
    """Return what stands against a film whose frames have these PDQ hashes, one after the other, or None."""
    outcome = lookalike_outcome(moderation_policy())
    return None if outcome is Outcome.ALLOW else _finding(session, frame_hashes, outcome)


def _finding(session: Session, frame_hashes: bytes, outcome: Outcome) -> Finding | None:
    film_id = find_blocked_look(session, frame_hashes)
    return None if film_id is None else Finding(outcome, CATEGORY, 1.0, film_id, _VERSION, CHECKER)


def _hashes(frames: Sequence[str], folder: Path, seconds: float) -> list[bytes]:
    """Return the hash of each frame, empty for one without features. Raises CheckFailed."""
    order = json.dumps({"pictures": frames, "seconds": seconds})
    words = ["app.moderation.frame_hash_process"]
    try:
        answer = run_confined(words, folder, seconds=seconds, answer_bytes=_ANSWER_BYTES, input_text=order)
        hashes = [bytes.fromhex(each) for each in _Answer.model_validate(answer).hashes]
    except ConfinedError as error:
        raise CheckFailed("timeout" if "too long" in str(error) else "crashed") from error
    except ValidationError as error:
        raise CheckFailed("bad_answer") from error
    if len(hashes) != len(frames):
        raise CheckFailed("bad_answer")
    return hashes
