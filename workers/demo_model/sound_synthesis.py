"""Play controls as samples: additive voices, clicks and a soft hum, continuous from one segment of a shot to the next."""

from dataclasses import asdict, dataclass
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
"""Time in which the knobs go from where the last segment left them to where the new one wants them."""

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
class SoundCarry:
    """What the next segment of a shot needs so that its sound goes on without a step: plain numbers, fit for JSON.

    `samples` were made since the shot began. Per voice: `phases` in turns, `levels`, `pitches` in Hz, `pans`,
    `partials` (amplitudes), `silent_for` (seconds since the last contact, or None), and the clicks that still sound.
    """

    samples: int
    phases: tuple[float, ...]
    levels: tuple[float, ...]
    pitches: tuple[float, ...]
    pans: tuple[float, ...]
    partials: tuple[tuple[float, ...], ...]
    silent_for: tuple[float | None, ...]
    clicks: tuple[Click, ...]

    def to_facts(self) -> dict[str, Any]:
        """As a dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> "SoundCarry":
        """Back from JSON; raises KeyError or TypeError for what `to_facts` did not write."""
        clicks = tuple(Click(each["age"], each["pan"], (each["seed"][0], each["seed"][1])) for each in facts["clicks"])
        lists = {name: tuple(facts[name]) for name in ("phases", "levels", "pitches", "pans", "silent_for")}
        partials = tuple(tuple(row) for row in facts["partials"])
        return cls(samples=facts["samples"], partials=partials, clicks=clicks, **lists)


def synthesise(
    controls: Controls, count: int, *, seed: int, start: float = 0.0, carry: SoundCarry | None = None
) -> tuple[Samples, SoundCarry]:
    """Make `count` samples, float32 [count, 2], from `start` seconds of the controls on, and what continues them.

    `seed` decides the noise of clicks. With the carry of the segment before, the sound begins where that one ended.
    """
    at = (start + np.arange(count + 1) / SOUND_RATE) * CONTROL_RATE
    stereo = np.zeros((2, count), np.float32)
    ramp = _ramp(count) if carry else np.zeros(0)
    ends = []
    for voice in range(VOICES):
        knobs = [np.interp(at, np.arange(len(row)), row) for row in _rows(controls, voice)]
        if carry:
            for knob, before in zip(knobs, (carry.levels[voice], np.log2(carry.pitches[voice]), carry.pans[voice])):
                knob[: len(ramp)] += ramp * (before - knob[0])
        amplitudes = _partials(controls.shapes[voice], float(controls.pitch[voice].max()))
        before = np.array(carry.partials[voice]) if carry else amplitudes
        if not controls.shapes[voice]:
            amplitudes = before
        phase = _play(stereo, knobs, amplitudes, before, ramp, carry.phases[voice] if carry else 0.0)
        ends.append((phase, *(float(knob[-1]) for knob in knobs), tuple(float(each) for each in amplitudes)))
    made = carry.samples if carry else 0
    seconds = (made + np.arange(count)) / SOUND_RATE
    stereo += (HUM_GAIN * np.sin(2 * np.pi * np.mod(HUM_HERTZ * seconds, 1.0))).astype(np.float32)
    if carry is None:
        fade = min(int(FADE_IN_SECONDS * SOUND_RATE), count)
        stereo[:, :fade] *= np.linspace(0.0, 1.0, fade, dtype=np.float32)
    clicks, silent_for = _clicks(controls, count / SOUND_RATE, seed, start, carry)
    for click in clicks:
        _strike(stereo, click)
    after = SoundCarry(
        samples=made + count,
        phases=tuple(end[0] for end in ends),
        levels=tuple(end[1] for end in ends),
        pitches=tuple(float(np.exp2(end[2])) for end in ends),
        pans=tuple(end[3] for end in ends),
        partials=tuple(end[4] for end in ends),
        silent_for=silent_for,
        clicks=tuple(
            Click(click.age + count / SOUND_RATE, click.pan, click.seed)
            for click in clicks
            if click.age + count / SOUND_RATE < CLICK_SECONDS
        ),
    )
    return np.ascontiguousarray(np.clip(stereo, -1.0, 1.0).T), after


def _rows(controls: Controls, voice: int) -> tuple[Array, Array, Array]:
    """The voice's knobs as they are interpolated: level, octaves, pan."""
    return controls.level[voice], np.log2(controls.pitch[voice]), controls.pan[voice]


def _ramp(count: int) -> Array:
    """From 1 to 0 over a joint, with level ends."""
    return 0.5 + 0.5 * np.cos(np.pi * np.arange(min(int(JOINT_SECONDS * SOUND_RATE), count + 1)) / (JOINT_SECONDS * SOUND_RATE))


def _partials(shape: str, highest: float) -> Array:
    """Amplitudes [8] of a shape's partials, without those above the brightest frequency."""
    amplitudes = np.zeros(PARTIALS)
    for number, amplitude in TIMBRES.get(shape, {}).items():
        amplitudes[number - 1] = amplitude if number * highest <= BRIGHTEST_HERTZ else 0.0
    return amplitudes


def _play(
    stereo: Samples, knobs: list[Array], amplitudes: Array, before: Array, ramp: Array, phase: float
) -> float:
    """Add one voice to the samples [2, n] and return its phase after them, in turns.

    Knobs have one sample more than the sound. Partials follow from the first one by sin kφ = 2 cos φ · sin (k-1)φ -
    sin (k-2)φ.
    """
    level, octaves, pan = np.maximum(knobs[0], 0.0), knobs[1], np.clip(knobs[2], 0.0, 1.0)
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
        before = carry.silent_for[voice] if carry else None
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
