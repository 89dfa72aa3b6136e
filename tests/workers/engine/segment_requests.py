"""Requests and watchers for engine tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workers.engine import Engine, EngineControl, SegmentRequest
from workers.engine.request import Frames

WIDTH, HEIGHT, FRAMES, STEPS, SEED = 64, 32, 9, 4, 1234


def request(**changes: Any) -> SegmentRequest:
    """Return a small text-to-video request with some fields changed."""
    words: dict[str, Any] = {
        "prompt": "a red circle moves left",
        "negative_prompt": "grey  square",
        "width": WIDTH,
        "height": HEIGHT,
        "frames": FRAMES,
        "fps": 8,
        "seed": SEED,
        "steps": STEPS,
        "guidance": 3.0,
        "resolution": "480P",
    }
    return SegmentRequest(**{**words, **changes})


def pictures(count: int, seed: int = 5) -> Frames:
    """Return random byte pictures [count, HEIGHT, WIDTH, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def film(engine: Engine, options: SegmentRequest, control: EngineControl | None = None) -> Frames:
    """Render a request to its end and return all frames."""
    return np.concatenate(list(engine.render(options, control or EngineControl())))


class Watcher(EngineControl):
    """A control that remembers what it heard, and may act at a step."""

    def __init__(self, at_step: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.steps: list[tuple[int, int]] = []
        self.previews: list[Frames | None] = []
        self.checkpoints: list[Path] = []
        self._at_step = at_step

    def on_step(self, step: int, steps: int, preview: Frames | None) -> None:
        self.steps.append((step, steps))
        self.previews.append(preview)
        if self._at_step:
            self._at_step(step)

    def on_checkpoint(self, path: Path) -> None:
        self.checkpoints.append(path)
