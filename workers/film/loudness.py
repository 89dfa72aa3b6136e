"""Loudness by ITU-R BS.1770, by ffmpeg's filter, and the one gain that brings a film near the usual loudness."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import av

from workers.film.encoding import SOUND_RATE, FilmError
from workers.film.sound_file import Samples, sound_frames

TARGET_LUFS = -14.0
"""Where players and platforms expect a film."""

GAIN_MAX = 12.0
QUIET_LUFS = -50.0
"""Below this a film is meant to be quiet, and stays so."""

PEAK_MAX = -1.0
"""The highest true peak, in dB of full scale: room for what a lossy codec adds."""

# The measured peak may be this much lower than the true one.
_ROUNDING = 0.05
# BS.1770 looks for peaks between the samples at four times their rate.
_OVERSAMPLING = 4
_SILENCE_LUFS = -70.0
# At −180 dB: where a sound ends in silence, the filter's values would become denormal, on which processors are slow.
_DITHER = 1e-9


@dataclass(frozen=True)
class Loudness:
    """The integrated loudness in LUFS (−70 for silence), and the true peak in dB of full scale."""

    integrated: float
    true_peak: float


def loudness(samples: Samples) -> Loudness:
    """Measure a sound, float32 [n, 2] at 48 kHz. Raises FilmError when it cannot be measured."""
    try:
        return Loudness(_integrated(samples), _true_peak(samples))
    except (av.error.FFmpegError, ValueError) as error:
        raise FilmError(f"the loudness of a sound could not be measured: {error}") from error


def _integrated(samples: Samples) -> float:
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SOUND_RATE, format="flt", layout="stereo", time_base=Fraction(1, SOUND_RATE))
    meter, sink = graph.add("ebur128", "metadata=1:framelog=quiet"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    integrated = _SILENCE_LUFS
    for frame in chain(sound_frames(samples, dither=_DITHER), (None,)):
        graph.push(frame)
        # Each frame that has passed carries the loudness until then.
        for passed in _passed(graph):
            integrated = float(passed.metadata.get("lavfi.r128.I", integrated))
    return integrated


def _passed(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _true_peak(samples: Samples) -> float:
    resampler = av.AudioResampler(format="flt", layout="stereo", rate=_OVERSAMPLING * SOUND_RATE)
    peak = 0.0
    for frame in chain(sound_frames(samples), (None,)) if len(samples) else ():
        for piece in resampler.resample(frame):
            values = piece.to_ndarray()
            peak = max(peak, float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
    return 20 * math.log10(peak) if peak else -math.inf


def gain_for(measured: Loudness) -> float:
    """Return the gain in dB towards `TARGET_LUFS`: at most `GAIN_MAX`, none for quiet films, and no peak too high."""
    wanted = 0.0 if measured.integrated < QUIET_LUFS else min(GAIN_MAX, TARGET_LUFS - measured.integrated)
    return min(wanted, PEAK_MAX - measured.true_peak - _ROUNDING)
