"""The resolved order: every API translates into a Spec, its hash binds the quote, and workers read nothing else."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from app.provenance.label_policy import VisibleLabel
from pricing.rate_key import Mode

Transition = Literal["cut", "crossfade"]

# A crossfade overlaps its two shots by half a second: long enough to read as a dissolve, short enough for a 1 s shot.
CROSSFADE_SECONDS = Fraction(1, 2)

# Fields that came later. With their defaults they are left out of what is stored and hashed, so that Specs, quotes and
# receipts from before stay what they were, byte for byte.
_LATER = ("sound", "sound_gain", "audio_gain", "style", "deepfake", "visible_label")


class Shot(BaseModel):
    """One prompt and one length. `transition` is the transition from the previous shot to this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    negative_prompt: str = ""
    seconds: int
    frames: int
    transition: Transition = "cut"
    first_frame: str | None = None  # asset id
    last_frame: str | None = None  # asset id
    # A shot that another job has already rendered (a retake keeps the other shots): storage keys of its clips.
    reuse_clips: tuple[str, ...] = ()


class Spec(BaseModel):
    """An order with every default resolved, before it is priced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    model: str
    mode: Mode
    resolution: str
    ratio: str
    width: int
    height: int
    fps: int
    frames: int  # of the whole film, without the overlaps of crossfades
    crossfade_frames: int
    shots: tuple[Shot, ...]
    style: str = ""  # of a storyboard: the line that each shot's prompt begins with
    seed: int
    audio: str | None = None  # asset id of an audio track: alone it is the film's sound, with `sound` it is mixed in
    sound: bool = False  # whether the model makes the sound
    sound_gain: str = "0"  # of the model's sound in a mix, in dB, a decimal string
    audio_gain: str = "0"  # of the track in a mix
    video: str | None = None  # asset id of the clip that v2v, edit and extend read
    video_seconds: str = "0"  # length of that clip in seconds, an exact fraction such as "81/16"
    strength: str | None = None  # share of noise for v2v and edit, a decimal string in (0, 1]
    service_tier: str = "standard"
    deepfake: bool = False  # whether the customer declares that it shows somebody or something as real
    visible_label: VisibleLabel = VisibleLabel.NONE

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER_DEFAULTS[name]}

    @property
    def has_sound(self) -> bool:
        """Whether the film has sound, of the model or of a track."""
        return self.sound or self.audio is not None

    def input_ids(self) -> list[str]:
        """Return the ids of the assets that the order reads, each once."""
        pictures = (each for shot in self.shots for each in (shot.first_frame, shot.last_frame))
        return list(dict.fromkeys(each for each in (self.audio, self.video, *pictures) if each is not None))

    def seconds(self) -> Fraction:
        """Return the film's length in seconds, exactly."""
        return Fraction(self.frames, self.fps)

    def billed_frames(self) -> int:
        """Return the frames that are paid for: all but those that show only shots reused from another job."""
        faded = [number > 0 and shot.transition == "crossfade" for number, shot in enumerate(self.shots)]
        return self.frames - reused_frames(self.shots, faded, self.crossfade_frames)

    def canonical(self) -> str:
        """Return the Spec as canonical JSON: equal orders give equal text."""
        return self.model_dump_json(exclude_defaults=False)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the canonical form, which binds a quote to exactly this order."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


_LATER_DEFAULTS = {name: Spec.model_fields[name].default for name in _LATER}


def styled(style: str, prompt: str) -> str:
    """Return a prompt with a style line before it, unless there is none or the prompt begins with it already."""
    return prompt if not style or prompt == style or prompt.startswith(f"{style}\n") else f"{style}\n{prompt}"


def film_frames(shots: tuple[Shot, ...], crossfade_frames: int) -> int:
    """Return the frames of the joined film: the shots' frames less one overlap per crossfade."""
    overlaps = sum(1 for shot in shots[1:] if shot.transition == "crossfade")
    return sum(shot.frames for shot in shots) - overlaps * crossfade_frames


def reused_frames(shots: Sequence[Shot], faded: Sequence[bool], crossfade_frames: int) -> int:
    """Return the frames of a joined film that show only reused shots, which are not paid again.

    `faded[n]` is whether a crossfade leads from the previous shot into shot n. A frame in which a reused shot fades
    into a new one counts as new.
    """
    reused = [bool(shot.reuse_clips) for shot in shots]
    overlaps = sum(1 for number, fades in enumerate(faded) if fades and (reused[number] or reused[number - 1]))
    return sum(shot.frames for shot in shots if shot.reuse_clips) - overlaps * crossfade_frames
