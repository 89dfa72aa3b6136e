"""The engine: prompts and numpy pictures in, numpy pictures out. Only it and the demo model import torch."""

from typing import assert_never

from app.catalog.models import VideoModel
from workers.engine.continuation import Continuation
from workers.engine.errors import (
    BadFrames,
    DoesNotFit,
    EngineError,
    EnginePoisoned,
    ModelRefused,
    OutOfMemory,
    Stopped,
)
from workers.engine.meter import Meter
from workers.engine.request import Engine, EngineControl, SegmentRequest
from workers.engine.seeds import segment_seed
from workers.engine.sound import BadSound, Sound

__all__ = [
    "BadFrames",
    "BadSound",
    "Continuation",
    "DoesNotFit",
    "Engine",
    "EngineControl",
    "EngineError",
    "EnginePoisoned",
    "Meter",
    "ModelRefused",
    "OutOfMemory",
    "SegmentRequest",
    "Sound",
    "Stopped",
    "make_engine",
    "segment_seed",
]


def make_engine(model: VideoModel, device: str = "cpu") -> Engine:
    """Return an engine for a video model of the catalogue; nothing is loaded before its `load()`.

    `device` is a torch device (`cpu`, `cuda:0`). torch is imported only for families that need it.
    """
    if model.family == "synthetic":
        from workers.engine.synthetic import SyntheticEngine

        return SyntheticEngine(model)
    if model.family == "kandinsky6":
        from workers.engine.kandinsky6 import Kandinsky6Engine

        return Kandinsky6Engine(model, device)
    if model.family == "wan":
        from workers.engine.wan import WanEngine

        return WanEngine(model, device)
    # A new family without a branch here is an error of mypy, and never rendered by another family's engine.
    assert_never(model.family)
