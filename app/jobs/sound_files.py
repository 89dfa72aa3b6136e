"""Where the sound of a clip or film is stored: beside it, so that every key of a clip also names its sound."""

_SOUND, _WAVE = "sound.flac", "wave.png"


def sound_key(clip_key: str) -> str:
    """Return the key of the lossless sound that a model made for a clip or film."""
    return _beside(clip_key, _SOUND)


def wave_key(film_key: str) -> str:
    """Return the key of the picture of a film's sound."""
    return _beside(film_key, _WAVE)


def _beside(key: str, name: str) -> str:
    return f"{key.rpartition('/')[0]}/{name}"
