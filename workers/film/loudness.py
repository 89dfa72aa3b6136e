"""Loudness by ITU-R BS.1770, measured by ffmpeg, and the one gain that brings a film near the usual loudness."""

import re
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from workers.film.encoding import SOUND_RATE, FilmError
from workers.film.ffmpeg import run

TARGET_LUFS = -14.0
"""Where players and platforms expect a film."""

GAIN_MAX = 12.0
QUIET_LUFS = -50.0
"""Below this a film is meant to be quiet, and stays so."""

PEAK_MAX = -1.0
"""The highest true peak, in dB of full scale: room for what a lossy codec adds."""

# ffmpeg prints tenths of a decibel: the peak may be this much higher.
_ROUNDING = 0.05
_SECONDS_MAX = 300.0
_INTEGRATED = re.compile(r"I:\s+(-?[\d.]+|-inf|nan) LUFS")
_PEAK = re.compile(r"Peak:\s+(-?[\d.]+|-inf|nan) dBFS")


@dataclass(frozen=True)
class Loudness:
    """The integrated loudness in LUFS (−70 for silence), and the true peak in dB of full scale."""

    integrated: float
    true_peak: float


def loudness(raw: Path) -> Loudness:
    """Measure a sound: raw float32 samples, stereo, 48 kHz. Raises FilmError when ffmpeg cannot."""
    source = ffmpeg.input(str(raw), f="f32le", ar=SOUND_RATE, ac=2, protocol_whitelist="file")
    graph = source.audio.filter("ebur128", peak="true", framelog="quiet").output("-", f="null")
    log = run(graph, seconds_max=_SECONDS_MAX, log_level="info")
    integrated, peak = _INTEGRATED.findall(log), _PEAK.findall(log)
    if not integrated or not peak:
        raise FilmError(f"the loudness of {raw.name} could not be measured{log}")
    return Loudness(float(integrated[-1]), float(peak[-1]))


def gain_for(measured: Loudness) -> float:
    """Return the gain in dB towards `TARGET_LUFS`: at most `GAIN_MAX`, none for quiet films, and no peak too high."""
    wanted = 0.0 if measured.integrated < QUIET_LUFS else min(GAIN_MAX, TARGET_LUFS - measured.integrated)
    return min(wanted, PEAK_MAX - measured.true_peak - _ROUNDING)
