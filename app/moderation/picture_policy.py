"""The parts of the operator's policy that concern pictures: which are checked, and the classifier that he brings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FRAMES_MAX = 32
# Seconds that an order may wait for the checks of its pictures.
SECONDS_MAX = 60
_Triple = tuple[float, float, float]


class PicturesPolicy(BaseModel):
    """Which pictures are checked by the checkers that the policy names, and how much of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: bool = True
    output: bool = True
    # Frames of a clip, or of a finished film, and the most pixels of a side of what checkers get.
    frames: int = Field(8, ge=1, le=FRAMES_MAX)
    side_max: int = Field(512, ge=64, le=2048)
    # For all checks of the pictures of one order, or of one film.
    seconds: float = Field(15.0, ge=1, le=SECONDS_MAX)
    # A file that was checked so long ago is checked again: a server may judge by another model meanwhile.
    remember_days: int = Field(30, ge=0, le=365)
    # How long moderators can see a refused film before it is deleted; 0: nothing of it is kept.
    quarantine_days: int = Field(14, ge=0, le=365)
    # Whether customers see previews and finished shots of a film before it was checked, where films are checked.
    previews: bool = False
    # What becomes of orders and films with frames like those of a film that was removed after a report. None: a
    # moderator decides where a policy is named, else they are refused.
    lookalikes: Literal["review", "refuse", "allow"] | None = None


class RepeatersPolicy(BaseModel):
    """What becomes of whoever repeats refused orders in a day (UTC): of a project's keys, or of all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # From so many refusals on, so many orders a minute are taken.
    slow_after: int = Field(20, ge=1)
    slow_per_minute: int = Field(2, ge=1)
    # From so many on none is, until an operator allows them again.
    stop_after: int = Field(100, ge=2)

    @model_validator(mode="after")
    def _check_order(self) -> "RepeatersPolicy":
        if self.slow_after > self.stop_after:
            raise ValueError("slow_after must not be above stop_after")
        return self


class OnnxLabel(BaseModel):
    """One output of a classifier, and from which score on it counts; without a threshold it never does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[\w./ -]{1,100}$")]
    refuse: float | None = Field(None, gt=0, le=1)
    review: float | None = Field(None, gt=0, le=1)


class OnnxPolicy(BaseModel):
    """A picture classifier in ONNX format: one input of a batch of pictures, one output of scores for each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    # What the record names; None: the first digits of the file's SHA-256.
    version: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,100}$")] | None = None
    # Width and height in pixels, to which pictures are resized.
    input_size: tuple[Annotated[int, Field(ge=8, le=2048)], Annotated[int, Field(ge=8, le=2048)]] = (224, 224)
    layout: Literal["nchw", "nhwc"] = "nchw"
    # Of red, green and blue between 0 and 1: (value - mean) / std.
    mean: _Triple = (0.0, 0.0, 0.0)
    std: _Triple = (1.0, 1.0, 1.0)
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    # In the order of the model's outputs.
    labels: tuple[OnnxLabel, ...] = Field(min_length=1, max_length=1000)
    on_failure: Literal["open", "closed", "review"] = "closed"
    timeout_seconds: float = Field(10.0, ge=0.1, le=30)
    memory_mib: int = Field(2048, ge=256, le=65536)
    threads: int = Field(1, ge=1, le=64)

    @model_validator(mode="after")
    def _check_values(self) -> "OnnxPolicy":
        if not all(each > 0 for each in self.std):
            raise ValueError("std must be above 0")
        if all(label.refuse is None and label.review is None for label in self.labels):
            raise ValueError("no label has a threshold")
        return self
