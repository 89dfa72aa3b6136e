"""Compare a finished film with its order: what was not ordered is not delivered, and not charged for."""

from fractions import Fraction

from app.jobs.spec import Spec
from workers.film.encoding import FilmError
from workers.film.measure import Measure

# A film's sound ends with its pictures, up to one packet of AAC (1024 samples).
SOUND_DEVIATION_SECONDS = Fraction(1024, 48_000)


class BrokenFilm(FilmError):
    """The stored film is not what the job is to deliver; the take fails and nothing is charged for it."""


def check_film(spec: Spec, measured: Measure, *, is_part: bool) -> None:
    """Compare what a stored film measures with what was ordered; of a part (cancelled), all but its length.

    Raises BrokenFilm.
    """
    wrong = []
    if not is_part and measured.frames != spec.frames:
        wrong.append(f"{measured.frames} frames instead of {spec.frames}")
    if measured.fps != spec.fps:
        wrong.append(f"{measured.fps} frames per second instead of {spec.fps}")
    if (measured.width, measured.height) != (spec.width, spec.height):
        wrong.append(f"{measured.width}x{measured.height} instead of {spec.width}x{spec.height}")
    if measured.has_audio != spec.has_sound:
        wrong.append("sound" if measured.has_audio else "no sound")
    elif spec.has_sound and abs(measured.audio_seconds - measured.seconds) > SOUND_DEVIATION_SECONDS:
        wrong.append(f"{float(measured.audio_seconds):.3f} seconds of sound")
    if spec.sound and measured.silent:
        wrong.append("silent sound")
    if measured.blank:
        wrong.append("blank pictures")
    if wrong:
        raise BrokenFilm(f"the stored film has {', '.join(wrong)}")
