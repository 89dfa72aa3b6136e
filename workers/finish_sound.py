"""The sound of a film at its finish: the model's, the customer's track, or both."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from app.jobs.spec import Spec
from workers.film.loudness import gain_for, loudness
from workers.film.sound_file import Samples, sound_length, write_sound
from workers.film.soundtrack import ClipSound, join_sounds, mix_track, scale


class FilmSound(NamedTuple):
    """What the model made, for films that go on from this one, and what the film is encoded with. None: silent."""

    of_model: Path | None
    film: Path | Samples | None


def make_sound(spec: Spec, clips: Sequence[ClipSound], track: Path | None, folder: Path) -> FilmSound:
    """Return the sound files of a film, made in `folder`.

    A track alone is the film's sound as it was uploaded. The model's sound is joined from its clips, mixed with the
    track where there is one, and brought near the usual loudness by one gain. Raises FilmError.
    """
    if not spec.sound:
        return FilmSound(None, track)
    samples = join_sounds(clips, folder / "sound.f32", fps=Fraction(spec.fps), crossfade_frames=spec.crossfade_frames)
    if len(clips) == 1 and sound_length(clips[0].path) == len(samples):
        of_model = clips[0].path  # nothing was cut, padded or faded
    else:
        of_model = folder / "sound.flac"
        write_sound(of_model, samples)
    if track is not None:
        gains = {"sound_gain": float(spec.sound_gain), "audio_gain": float(spec.audio_gain)}
        mix_track(samples, track, **gains, buffer=folder / "track.f32")
    scale(samples, gain_for(loudness(samples)))
    return FilmSound(of_model, samples)
