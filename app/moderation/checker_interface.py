"""What a checker of pictures is: one interface, whoever judges."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from app.moderation.outcomes import CheckFailed, Finding

OnFailure = Literal["open", "closed", "review"]


class PictureAnswer(NamedTuple):
    """What a checker says of a file: what stands against it, or None, and by which version."""

    finding: Finding | None
    version: str


class PictureChecker(Protocol):
    """A checker of pictures. Its `fingerprint` changes with whatever may change its answers."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def on_failure(self) -> OnFailure: ...

    def check(
        self, files: Sequence[Sequence[Path]], folder: Path, *, seconds: float
    ) -> list[PictureAnswer | CheckFailed]:
        """Check files, each by its frames (JPEGs, at least one); return an answer for each, the worst of its frames.

        A file that alone could not be checked has CheckFailed for its answer. `folder` is empty, for files of the
        checker's own. The answers come within `seconds`. Call it without a database session in use. Raises CheckFailed
        where none could be checked.
        """


def fingerprint_of(*facts: object) -> str:
    """Return a short name of facts that decide what a checker answers."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]
