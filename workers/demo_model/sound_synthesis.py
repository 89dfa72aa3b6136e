"""Play controls as samples: additive voices, clicks, a soft hum; without a step from segment to segment of a shot."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.demo_model.sound_law import CONTROL_RATE, VOICES, Array, Controls
from workers.engine.sound import SOUND_RATE, Samples

PARTIALS = 8
TIMBRES: dict[str, dict[int, float]] = {
    "circle": {1: 1.0},
    "square": {1: 0.93, 3: 0.31, 5: 0.186, 7: 0.133},
    "triangle": {k: 0.7 / k for k in range(1, PARTIALS + 1)},
}
"""Amplitude of each partial: a sine, a hollow reed, a bright string; about equally loud."""

BRIGHTEST_HERTZ = 6000.0
"""No partial of a voice lies above this; what is above belongs to clicks."""

GAIN, HUM_GAIN, HUM_HERTZ = 0.5, 0.006, 110.0
CLICK_GAIN, THUMP_GAIN, THUMP_HERTZ = 0.16, 0.22, 90.0
CLICK_SECONDS = 0.15
"""Length of a click with the thump below it."""

JOINT_SECONDS = 0.06
"""Time in which the curves go from where the last segment left them to where the new one wants them."""

FADE_IN_SECONDS = 0.03
SAME_CONTACT_SECONDS = 0.15
"""A contact that two segments report this close together is one."""


@dataclass(frozen=True)
class Click:
    """A click that began `age` seconds ago, at a place from 0 (left) to 1 (right); `seed` decides its noise."""

    age: float
    pan: float
    seed: tuple[int, int]


@dataclass(frozen=True)
class VoiceState:
    """Where a voice stands at the end of a segment.

    `phase` in turns, `level`, `octaves` (binary logarithm of Hz), `pan` 0..1, the amplitudes of its `partials`, and
    `silent_for`: seconds since its last contact, or None.
    """

    phase: float
    level: float
    octaves: float
    pan: float
    partials: tuple[float, ...]
    silent_for: float | None


@dataclass(frozen=True)
class SoundCarry:
    """What the next segment of a shot needs so that its sound goes on without a step: plain numbers, fit for JSON.

    `samples` counts those since the shot began; `clicks` still sound.
    """

    samples: int
    voices: tuple[VoiceState, ...]
    clicks: tuple[Click, ...]

    def to_facts(self) -> dict[str, Any]:
        """As a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> "SoundCarry":
        """Back from JSON; raises KeyError or TypeError for what `to_facts` did not write."""
        voices = tuple(VoiceState(**{**voice, "partials": tuple(voice["partials"])}) for voice in facts["voices"])
        clicks = tuple(Click(each["age"], each["pan"], (each["seed"][0], each["seed"][1])) for each in facts["clicks"])
        return cls(int(facts["samples"]), voices, clicks)


def synthesise(
    controls: Controls, count: int, *, seed: int, start: float = 0.0, carry: SoundCarry | None = None
) -> tuple[Samples, SoundCarry]:
    """Make `count` samples, float32 [count, 2], from `start` seconds of the controls on, and what continues them.

    `seed` decides the noise of clicks. With the carry of the segment before, the sound begins where that one ended.
    """
    stereo = np.zeros((2, count), np.float32)
    states = [_voice(stereo, controls, voice, start, carry.voices[voice] if carry else None) for voice in range(VOICES)]
    position = carry.samples if carry else 0
    turns = np.mod((position + np.arange(count)) * (HUM_HERTZ / SOUND_RATE), 1.0)
    stereo += (HUM_GAIN * np.sin(2 * np.pi * turns)).astype(np.float32)
    if carry is None:
        fade = min(int(FADE_IN_SECONDS * SOUND_RATE), count)
        stereo[:, :fade] *= np.linspace(0.0, 1.0, fade, dtype=np.float32)
    seconds = count / SOUND_RATE
    clicks, silent_for = _clicks(controls, seconds, seed, start, carry)
    for click in clicks:
        _strike(stereo, click)
    after = SoundCarry(
        samples=position + count,
        voices=tuple(replace(state, silent_for=since) for state, since in zip(states, silent_for, strict=True)),
        clicks=tuple(
            replace(click, age=click.age + seconds) for click in clicks if click.age + seconds < CLICK_SECONDS
        ),
    )
    return np.ascontiguousarray(np.clip(stereo, -1.0, 1.0).T), after


def _voice(stereo: Samples, controls: Controls, voice: int, start: float, before: VoiceState | None) -> VoiceState:
    """Add one voice to the samples [2, n], from where it stood before, and return where it stands after them."""
    count = stereo.shape[1]
    at = (start + np.arange(count + 1) / SOUND_RATE) * CONTROL_RATE
    points = np.arange(controls.level.shape[1])
    rows = (controls.level[voice], np.log2(controls.pitch[voice]), controls.pan[voice])
    level, octaves, pan = (np.interp(at, points, row) for row in rows)
    partials = _partials(controls.shapes[voice], float(controls.pitch[voice].max()))
    old, ramp = partials, np.zeros(0)
    if before:
        ramp = _ramp(count)
        for curve, value in ((level, before.level), (octaves, before.octaves), (pan, before.pan)):
            curve[: len(ramp)] += ramp * (value - curve[0])
        old = np.array(before.partials)
        partials = partials if controls.shapes[voice] else old  # A voice that ends fades out with the timbre it had.
    level, pan = np.maximum(level, 0.0), np.clip(pan, 0.0, 1.0)
    phase = _play(stereo, (level, octaves, pan), (partials, old, ramp), before.phase if before else 0.0)
    return VoiceState(
        phase, float(level[-1]), float(octaves[-1]), float(pan[-1]), tuple(float(each) for each in partials), None
    )


def _ramp(count: int) -> Array:
    """From 1 to 0 over a joint, with level ends."""
    return 0.5 + 0.5 * np.cos(
        np.pi * np.arange(min(int(JOINT_SECONDS * SOUND_RATE), count + 1)) / (JOINT_SECONDS * SOUND_RATE)
    )


def _partials(shape: str, highest: float) -> Array:
    """Amplitudes [8] of a shape's partials, without those above the brightest frequency."""
    amplitudes = np.zeros(PARTIALS)
    for number, amplitude in TIMBRES.get(shape, {}).items():
        amplitudes[number - 1] = amplitude if number * highest <= BRIGHTEST_HERTZ else 0.0
    return amplitudes


def _play(
    stereo: Samples, curves: tuple[Array, Array, Array], timbre: tuple[Array, Array, Array], phase: float
) -> float:
    """Add a tone to the samples [2, n] and return its phase after them, in turns.

    Knobs are level, octaves and pan, with one sample more than the sound; the timbre is the partials' amplitudes, what
    they were before, and how these fade. Partials follow from the first by sin kφ = 2 cos φ sin (k-1)φ - sin (k-2)φ.
    """
    level, octaves, pan = curves
    amplitudes, before, ramp = timbre
    turns = np.empty(len(octaves))
    turns[0] = phase
    turns[1:] = phase + np.cumsum(np.exp2(octaves[:-1])) / SOUND_RATE
    loudest = max(float(level.max()), 0.0)
    if loudest > 1e-6 and (amplitudes.any() or before.any()):
        angle = (2 * np.pi * np.mod(turns[:-1], 1.0)).astype(np.float32)
        sine, twice = np.sin(angle), 2 * np.cos(angle)
        last, this = np.zeros_like(sine), sine
        tone = np.zeros_like(sine)
        for number in range(int(np.max(np.nonzero(amplitudes + before))) + 1):
            tone += np.float32(amplitudes[number]) * this
            if before[number] != amplitudes[number]:
                short = min(len(ramp), len(tone))
                tone[:short] += ((before[number] - amplitudes[number]) * ramp[:short] * this[:short]).astype(np.float32)
            last, this = this, twice * this - last
        tone *= (GAIN * level[:-1]).astype(np.float32)
        side = (pan[:-1] * (np.pi / 2)).astype(np.float32)
        stereo[0] += tone * np.cos(side)
        stereo[1] += tone * np.sin(side)
    return float(np.mod(turns[-1], 1.0))


def _clicks(
    controls: Controls, seconds: float, seed: int, start: float, carry: SoundCarry | None
) -> tuple[list[Click], tuple[float | None, ...]]:
    """The clicks that sound in the next `seconds` (ages below zero lie ahead), and how long each voice had none after.

    A contact just before the joint that the last segment did not report yet sounds at the joint.
    """
    clicks = list(carry.clicks) if carry else []
    silent_for: list[float | None] = []
    for voice in range(VOICES):
        before = carry.voices[voice].silent_for if carry else None
        last = -before if before is not None else -np.inf
        earliest = -SAME_CONTACT_SECONDS / 2 if carry else 0.0
        for number, contact in enumerate(controls.contacts[voice]):
            at = contact - start
            if earliest <= at < seconds and at - last > SAME_CONTACT_SECONDS:
                place = int(np.clip(round(contact * CONTROL_RATE), 0, controls.pan.shape[1] - 1))
                clicks.append(Click(-max(at, 0.0), float(controls.pan[voice][place]), (seed, 2 * number + voice)))
                last = max(at, 0.0)
        silent_for.append(seconds - float(last) if np.isfinite(last) else None)
    return clicks, tuple(silent_for)


def _strike(stereo: Samples, click: Click) -> None:
    """Add a click to the samples [2, n]: 30 ms of bright noise and a low thump."""
    wave = _click_wave(click.seed)
    begin = round(-click.age * SOUND_RATE)
    source = wave[max(-begin, 0) : max(stereo.shape[1] - begin, 0)]
    place = max(begin, 0)
    stereo[0, place : place + len(source)] += source * np.float32(np.cos(click.pan * np.pi / 2))
    stereo[1, place : place + len(source)] += source * np.float32(np.sin(click.pan * np.pi / 2))


def _click_wave(seed: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A click's samples, float32 [7200]."""
    time = np.arange(int(CLICK_SECONDS * SOUND_RATE)) / SOUND_RATE
    noise = np.random.default_rng(seed).standard_normal(len(time) + 2)
    bright = np.diff(noise, n=2) / np.sqrt(6.0)
    tick = CLICK_GAIN * bright * np.exp(-time / 0.007)
    thump = THUMP_GAIN * np.sin(2 * np.pi * THUMP_HERTZ * time) * np.exp(-time / 0.04)
    fade = np.minimum(1.0, (CLICK_SECONDS - time) / 0.02)
    return ((tick + thump) * fade).astype(np.float32)
