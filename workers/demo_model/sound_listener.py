"""Listen to a clip's samples and say what is heard: clicks, voices, their pitch, place and timbre.

Two voices are told apart by their places: the first one sounds in the left half, the second one in the right half, as
in wide pictures. (In upright ones two objects are above one another and may sound from one place.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.demo_model.sound_law import Array, spaced
from workers.engine.sound import SOUND_RATE, Samples

WINDOW, HOP = 4096, 1024
LOW_HERTZ, HIGH_HERTZ = 150.0, 900.0
"""Fundamentals lie between these."""

TONE_TOP_HERTZ = 6500.0
CLICK_BOTTOM_HERTZ = 8000.0
CLICK_WINDOW = 128
ONE_PLACE = 4e-4
"""Share of the power that does not come from the loudest place: less than this where there is one voice."""

KNOWN_SUPPORT, KNOWN_SHARE = 0.2, 0.05
"""A voice's place is known at times when its pure partials have this share of their usual weight, if these are this
share of the clip."""

SECOND_SPANS = 48
"""Points, about a second, over which two voices are taken to be uncorrelated."""

IMPURE, AGREEING = 0.005, 0.01
"""Share of a bin's power out of phase between the channels, and difference between neighbours, that one voice has."""

SILENT = 1e-4
"""Root mean square of a voice that is not there."""

OVERTONE, SECOND = 0.02, 0.06
"""Power of third and second partial over the first, above which a timbre has odd partials, or all of them."""

Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Voice:
    """One voice as heard, every HOP samples: pitch in Hz, place 0..1, level; and the shape whose timbre it has."""

    shape: str
    pitch: Array
    pan: Array
    level: Array

    def octaves_gained(self) -> float:
        """How far the voice rose from its beginning to its end, in octaves."""
        head = max(2, len(self.pitch) // 8)
        return float(np.log2(np.median(self.pitch[-head:]) / np.median(self.pitch[:head])))


@dataclass(frozen=True)
class Transcript:
    """What is heard in a clip: clicks in seconds, and one or two voices, the left one first."""

    clicks: tuple[float, ...]
    voices: tuple[Voice, ...]

    @staticmethod
    def times(count: int) -> Array:
        """Seconds of a voice's points, [count]."""
        return (np.arange(count) * HOP + WINDOW / 2) / SOUND_RATE


def listen(samples: Samples) -> Transcript:
    """Describe a clip's sound, float32 [n, 2] at 48 kHz, at least 0.25 s long."""
    left, right = (_spectra(samples[:, side]) for side in range(2))
    place, weight = _places(left, right)
    main = _axis(left, right)
    along, across = _turned(left, right, main)
    if _offset(along, across) < ONE_PLACE:
        voices = [_voice(along, main)]
    else:
        first = _modes(place, np.where(place < 0.5, weight, 0.0))
        second = _modes(place, np.where(place >= 0.5, weight, 0.0))
        if first is None or second is None:  # One voice never sounds alone in any bin: its partials are all covered.
            first, second = _with_covered(left, right, first, second)
        voices = [
            _voice(mono, middle)
            for mono, middle in zip(_unmix(left, right, first, second), (first, second), strict=True)
        ]
    return Transcript(_clicks(samples), tuple(voice for voice in voices if voice.level.max(initial=0.0) > SILENT))


def _spectra(channel: Samples) -> Complex:
    """Spectra of a channel, [T, bins], every HOP samples."""
    frames = np.lib.stride_tricks.sliding_window_view(channel.astype(np.float64), WINDOW)[::HOP]
    return np.asarray(np.fft.rfft(frames * np.hanning(WINDOW), axis=1))


def _hertz(bins: int) -> Array:
    """Frequencies of the bins."""
    return np.arange(bins) * SOUND_RATE / WINDOW


def _tonal(bins: int) -> npt.NDArray[np.bool_]:
    """The bins in which voices sound."""
    return np.asarray((_hertz(bins) > LOW_HERTZ) & (_hertz(bins) < TONE_TOP_HERTZ))


def _places(left: Complex, right: Complex) -> tuple[Array, Array]:
    """The place from which each bin sounds, 0..1, and its weight: strong, and one voice's alone. Both [T, bins]."""
    power_left, power_right = np.square(np.abs(left)), np.square(np.abs(right))
    cross = left * right.conj()
    place = np.arctan2(2 * cross.real, power_left - power_right) / np.pi
    power = power_left + power_right
    # Two voices in one bin are out of phase between the channels, or else the bin is between both places.
    pure = np.maximum(0.0, 1 - np.abs(cross.imag) / (IMPURE * power + 1e-12))
    apart = np.abs(np.diff(place, axis=1, prepend=np.inf, append=np.inf))
    pure *= np.minimum(apart[:, :-1], apart[:, 1:]) < AGREEING  # A partial fills neighbouring bins from one place.
    tonal = _tonal(left.shape[1])
    strong = power > 1e-4 * power[:, tonal].max(1, keepdims=True)
    return np.clip(place, 0.0, 1.0), power**0.25 * pure * (strong & tonal)


def _axis(left: Complex, right: Complex) -> Array:
    """The place from which most of the power comes, at each time, [T]."""
    tonal = _tonal(left.shape[1])
    left, right = left[:, tonal], right[:, tonal]
    common = (left * right.conj()).real.sum(1)
    apart = (np.square(np.abs(left)) - np.square(np.abs(right))).sum(1)
    return _steady(np.clip(np.arctan2(2 * common, apart) / np.pi, 0.0, 1.0), 7)


def _turned(left: Complex, right: Complex, place: Array) -> tuple[Complex, Complex]:
    """What sounds from a place, and what does not: the channels turned by the place's angle."""
    cosine, sine = np.cos(place * np.pi / 2)[:, None], np.sin(place * np.pi / 2)[:, None]
    return left * cosine + right * sine, right * cosine - left * sine


def _offset(along: Complex, across: Complex) -> float:
    """Share of the power that does not come from the main place, as the median over time."""
    tonal = _tonal(along.shape[1])
    here, aside = (np.square(np.abs(each[:, tonal])).sum(1) for each in (along, across))
    return float(np.median(aside / (here + aside + 1e-12)))


def _with_covered(left: Complex, right: Complex, first: Array | None, second: Array | None) -> tuple[Array, Array]:
    """Both places where at most one is known, the left one first."""
    known = first if first is not None else second
    main = known if known is not None else _axis(left, right)
    other = _covered(*_turned(left, right, main), main)
    return (other, main) if first is None else (main, other)


def _covered(along: Complex, across: Complex, main: Array) -> Array:
    """The place of a voice whose partials coincide with the main one's: the two do not keep step over a second."""
    power = np.square(np.abs(across))
    top = _top(power)[:, None] + np.arange(-2, 3)
    rows = np.arange(len(top))[:, None]
    window = np.ones(min(SECOND_SPANS, len(top)))
    common = np.convolve((along * across.conj()).real[rows, top].sum(1), window, "same")
    alone = np.convolve(power[rows, top].sum(1), window, "same") + 1e-12
    angle = np.arctan2(1.0, common / alone)  # 0..π away from the main place, on either side
    other = main * np.pi / 2 + np.where(main < 0.5, angle, angle - np.pi)
    return np.clip(other / (np.pi / 2), 0.0, 1.0)


def _top(power: Array) -> npt.NDArray[np.intp]:
    """The strongest bin at each time among those where fundamentals lie, [T]."""
    low, high = np.searchsorted(_hertz(power.shape[1]), (LOW_HERTZ, HIGH_HERTZ))
    return np.asarray(low + power[:, low:high].argmax(1))


def _modes(place: Array, weight: Array) -> Array | None:
    """The place from which most bins sound, at each time, [T], steady over neighbouring times; None if unknown."""
    edges = np.linspace(0.0, 1.0, 101)
    modes, support = np.full(len(place), 0.5), np.zeros(len(place))
    for index, (row, heavy) in enumerate(zip(place, weight, strict=True)):
        histogram = np.convolve(np.histogram(row, edges, weights=heavy)[0], np.ones(3), "same")
        top = (edges[histogram.argmax()] + edges[histogram.argmax() + 1]) / 2
        near = heavy * (np.abs(row - top) < 0.02)
        support[index] = near.sum()
        if support[index] > 0:
            modes[index] = (row * near).sum() / support[index]
    known = np.nonzero((support > 0) & (support >= KNOWN_SUPPORT * np.percentile(support, 75)))[0]
    if len(known) <= KNOWN_SHARE * len(modes):
        return None
    return _steady(np.interp(np.arange(len(modes)), known, modes[known]), 7)


def _steady(row: Array, width: int) -> Array:
    """A running median."""
    padded = np.pad(row, width // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1))


def _unmix(left: Complex, right: Complex, first: Array, second: Array) -> tuple[Complex, Complex]:
    """The spectra of two voices that sound from two places."""
    a, b = first[:, None] * np.pi / 2, second[:, None] * np.pi / 2
    scale = 1 / np.maximum(np.sin(b - a), 0.05)
    return (left * np.sin(b) - right * np.cos(b)) * scale, (right * np.cos(a) - left * np.sin(a)) * scale


def _voice(mono: Complex, pan: Array) -> Voice:
    """A voice from its spectra [T, bins] and its places."""
    power = np.square(np.abs(mono))
    top = _top(power)
    rows = np.arange(len(power))
    before, here, after = (np.log(power[rows, top + shift] + 1e-20) for shift in (-1, 0, 1))
    shift = 0.5 * (before - after) / np.minimum(before - 2 * here + after, -1e-9)
    pitch = _steady((top + np.clip(shift, -0.5, 0.5)) * SOUND_RATE / WINDOW, 7)
    partials = np.array([_partial(power, pitch, number) for number in (1, 2, 3)])  # [3, T]
    level = np.sqrt(partials[0]) * 2 / WINDOW
    loud = partials[0] > 0.05 * np.percentile(partials[0], 90)
    second, third = (float(np.median(partials[row][loud] / (partials[0][loud] + 1e-20))) for row in (1, 2))
    shape = "circle" if third < OVERTONE else "triangle" if second > SECOND else "square"
    return Voice(shape, pitch, pan, level)


def _partial(power: Array, pitch: Array, number: int) -> Array:
    """Power around a partial of a voice at each time, [T]."""
    middle = np.rint(pitch * number * WINDOW / SOUND_RATE).astype(int)
    reach = 2 + number
    columns = np.clip(middle[:, None] + np.arange(-reach, reach + 1), 0, power.shape[1] - 1)
    return power[np.arange(len(power))[:, None], columns].sum(1)


def _clicks(samples: Samples) -> tuple[float, ...]:
    """Seconds at which a burst of bright noise begins."""
    count = len(samples) // CLICK_WINDOW
    frames = samples[: count * CLICK_WINDOW].reshape(count, CLICK_WINDOW, 2).astype(np.float64)
    spectra = np.fft.rfft(frames * np.hanning(CLICK_WINDOW)[:, None], axis=1)
    bright = np.arange(spectra.shape[1]) * SOUND_RATE / CLICK_WINDOW > CLICK_BOTTOM_HERTZ
    power = np.sqrt(np.square(np.abs(spectra[:, bright])).sum((1, 2)))
    floor = max(10 * float(np.median(power)), 0.25)
    before = np.concatenate([[0.0], power[:-1]])
    starts = np.nonzero((power > floor) & (power > 3 * before))[0]
    return spaced(starts * CLICK_WINDOW / SOUND_RATE)
