"""Sound for the demo model, which makes pictures only: a second model hears what is seen in them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from workers.engine.continuation import Continuation
from workers.engine.decode import to_bytes
from workers.engine.request import Frames, SegmentRequest
from workers.engine.sound import Sound


class HeardPictures:
    """Keeps the pictures of one render as they are decoded, and makes their sound when all are there."""

    def __init__(self) -> None:
        self._pictures: list[Frames] = []
        self.facts: dict[str, Any] = {}  # for the continuation: what goes on with the next segment's sound

    def keep(self, pictures: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield pieces of pictures in 0..1, float32 [f, H, W, 3], unchanged."""
        for piece in pictures:
            self._pictures.append(to_bytes(piece).cpu().numpy())
            yield piece

    def sound(self, request: SegmentRequest, *, lead: int, fps: int) -> Sound:
        """Return the sound of the delivered frames; `lead` of the pictures, which have `fps`, were delivered before.

        With the continuation of the segment before, it goes on without a step. Raises BadSound.
        """
        # The worker of another model has no use for it.
        from workers.demo_model.sound_model import SoundModel
        from workers.demo_model.sound_synthesis import SoundCarry

        before = _facts(request.handover)
        sound, carry = SoundModel().generate(
            np.concatenate(self._pictures),
            seed=request.seed,
            frames=request.frames,
            fps=request.fps,
            pictures_fps=fps,
            start=lead / fps,
            carry=SoundCarry.from_facts(before) if before is not None else None,
        )
        self.facts = {"sound": carry.to_facts()}
        return sound


def _facts(handover: Continuation | None) -> dict[str, Any] | None:
    return None if handover is None else handover.facts.get("sound")
