"""Resolve the sound of a film: the model's, an audio track, or a mix of both."""

from decimal import Decimal
from typing import Any

from app.catalog.models import VideoModel
from app.errors import AppError
from app.jobs.capability import check_sound
from app.jobs.schemas import VideoRequest


def resolve_sound(request: VideoRequest, model: VideoModel) -> dict[str, Any]:
    """Return the fields of a Spec that decide who makes the sound, and the gains of a mix.

    `auto` is the model's sound where it makes one, unless a track was sent: that alone is then the sound, as it always
    was. Raises AppError `sound_unsupported` where sound is demanded of a silent model, and `invalid_request` for fields
    that contradict each other and for gains without a mix.
    """
    wanted = request.sound
    if request.generate_audio is not None and wanted != "auto" and wanted != request.generate_audio:
        raise AppError("invalid_request", "sound and generate_audio contradict each other.", field="generate_audio")
    if wanted is True:
        check_sound(model)
    is_off = wanted is False or (wanted == "auto" and (request.generate_audio is False or request.audio is not None))
    has_sound = model.sound and not is_off
    gains = {name: getattr(request, name) for name in ("sound_gain", "audio_gain")}
    for name, gain in gains.items():
        if gain is not None and not (has_sound and request.audio):
            message = f"{name} is for a mix: it needs sound true, a model that makes it, and an audio track."
            raise AppError("invalid_request", message, field=name)
    return {"sound": has_sound, **{name: _decibels(gain) for name, gain in gains.items() if gain}}


def _decibels(gain: Decimal) -> str:
    return f"{gain.normalize():f}"
