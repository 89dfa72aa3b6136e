"""Resolve a request into a Spec: every default is filled in before anything is priced."""

import secrets
from fractions import Fraction

from sqlalchemy.orm import Session

from app.assets.find import ready_asset
from app.assets.owner import Owner
from app.assets.tables import Asset
from app.catalog.models import VideoModel, load_catalog
from app.catalog.sizes import Size, resolve_size
from app.catalog.vocabulary import prompt_terms
from app.errors import AppError
from app.jobs.fits import check_length, check_model, check_pictures
from app.jobs.shapes import ShotIn, VideoRequest
from app.jobs.spec import CROSSFADE_SECONDS, Mode, Shot, Spec, film_frames
from app.settings import get_settings

DEFAULT_SECONDS = 5
AUTO = "auto"


def resolve(
    session: Session,
    owner: Owner,
    request: VideoRequest,
    model: VideoModel,
    *,
    seed: int | None = None,
    mode: Mode | None = None,
) -> Spec:
    """Return the Spec of a request for one model. Assets are named by id here; the doors have fetched what was not.

    `seed` stands in where the request names none, so that a quote and its redemption resolve alike; `mode` is given
    by addresses that mean one (edits, extensions). Raises AppError for whatever cannot be made, naming the field.
    """
    size = resolve_size(request.size, request.resolution, request.ratio)
    shots_in = storyboard(request)
    wanted = mode or mode_of(request, shots_in)
    check_model(model, wanted, size)
    check_pictures(model, shots_in, wanted)
    clip = _source(session, owner, request, wanted)
    shots = tuple(_shot(session, owner, request, model, shot, n) for n, shot in enumerate(shots_in))
    if clip is not None:
        shots = (_as_long_as(shots, clip, model, request),)
    check_length(model, shots, fps=model.fps, listed=request.shots is not None)
    crossfade_frames = max(1, int(CROSSFADE_SECONDS * model.fps))
    sound = ready_asset(session, owner, request.audio, kind="sound", field="audio") if request.audio else None
    return Spec(
        model=model.id,
        mode=wanted,
        resolution=size.resolution,
        ratio=size.ratio,
        width=size.width,
        height=size.height,
        fps=model.fps,
        frames=film_frames(shots, crossfade_frames),
        crossfade_frames=crossfade_frames,
        shots=shots,
        seed=request.seed if request.seed is not None else seed if seed is not None else secrets.randbelow(2**31),
        audio=sound.id if sound else None,
        video=clip.id if clip else None,
        # What is read is what is made anew: a longer clip is read as far as the film goes.
        video_seconds=str(Fraction(shots[0].frames, model.fps)) if clip else "0",
        strength=_strength(request, model, wanted),
        service_tier=request.service_tier,
    )


def size_of(spec: Spec) -> Size:
    """Return the sold size that a Spec was resolved to."""
    return Size(spec.resolution, spec.ratio, spec.width, spec.height)


def _shot(session: Session, owner: Owner, request: VideoRequest, model: VideoModel, shot: ShotIn, number: int) -> Shot:
    place = f"shots.{number}." if request.shots else ""
    return Shot(
        prompt=shot.prompt,
        negative_prompt=shot.negative_prompt or request.negative_prompt or "",
        seconds=shot.seconds,
        frames=shot.seconds * model.fps,
        transition=shot.transition if number else "cut",
        first_frame=_picture(session, owner, shot.first_frame, f"{place}first_frame"),
        last_frame=_picture(session, owner, shot.last_frame, f"{place}last_frame"),
    )


def _source(session: Session, owner: Owner, request: VideoRequest, mode: Mode) -> Asset | None:
    """Return the clip that v2v and edit make anew, or None for the modes that read none."""
    if mode not in ("v2v", "edit"):
        return None
    if request.video is None:
        raise AppError("invalid_request", f"The mode {mode} reads a video; name one.", field="video")
    if request.shots is not None and len(request.shots) > 1:
        raise AppError("invalid_request", "A clip is made anew as one shot.", field="shots", allowed=1)
    return ready_asset(session, owner, request.video, kind="clip", field="video")


def _as_long_as(shots: tuple[Shot, ...], clip: Asset, model: VideoModel, request: VideoRequest) -> Shot:
    """Return the one shot of a film made from a clip: as long as the clip, or as the request says if that is less."""
    length = Fraction(clip.seconds or "0")
    available = int(length * model.fps)
    if available < 1:
        raise AppError("asset_refused", "The clip is shorter than one frame of this model.", field="video")
    said = request.seconds is not None or request.shots is not None
    if said and shots[0].frames > available:
        allowed = f"1 to {int(length)}"
        raise AppError("invalid_request", "The clip is shorter than that.", field="seconds", allowed=allowed)
    frames = shots[0].frames if said else available
    return shots[0].model_copy(update={"frames": frames, "seconds": max(1, round(Fraction(frames, model.fps)))})


def candidates(request: VideoRequest, mode: Mode | None = None) -> list[VideoModel]:
    """Return the models that may make this request: the named one, or for `auto` every enabled one that can.

    Raises AppError `unknown_model`, or `mode_unsupported` where no enabled model has the mode.
    """
    catalog = {each.id: each for each in load_catalog(get_settings().catalog_dir).values() if each.enabled}
    if request.model != AUTO:
        if request.model not in catalog:
            message = f"There is no enabled video model {request.model!r}; enabled are {', '.join(sorted(catalog))}."
            raise AppError(
                "unknown_model", message, field="model", value=request.model, allowed=[AUTO, *sorted(catalog)]
            )
        return [catalog[request.model]]
    wanted = mode or mode_of(request, storyboard(request))
    size = resolve_size(request.size, request.resolution, request.ratio)
    able = [
        each
        for each in catalog.values()
        if wanted in each.modes and each.native_size(size) and each.family != "synthetic"
    ]
    if not able:
        raise AppError("mode_unsupported", f"No enabled model can do {wanted} at {size.name}.", field="model")
    return able


def storyboard(request: VideoRequest) -> list[ShotIn]:
    """Return the shots of a request: those it lists, or one made of its prompt.

    Raises AppError where it has neither or both, or where its seconds contradict its shots.
    """
    if request.shots is None:
        if request.prompt is None:
            message = "A film needs a prompt, or shots with a prompt each."
            raise AppError("invalid_request", message, field="prompt", allowed="1 to 5000 characters")
        return [
            ShotIn(
                prompt=request.prompt,
                seconds=request.seconds or DEFAULT_SECONDS,
                negative_prompt=request.negative_prompt,
                first_frame=request.first_frame,
                last_frame=request.last_frame,
            )
        ]
    if request.prompt is not None:
        raise AppError("invalid_request", "A request has either a prompt or shots, not both.", field="prompt")
    for name in ("first_frame", "last_frame"):
        if getattr(request, name) is not None:
            message = f"With shots, {name} belongs to a shot: shots.0.{name}."
            raise AppError("invalid_request", message, field=name)
    total = sum(shot.seconds for shot in request.shots)
    if request.seconds is not None and request.seconds != total:
        message = f"The shots last {total} seconds together, but the request says {request.seconds}."
        raise AppError("invalid_request", message, field="seconds", allowed=[total])
    return request.shots


def mode_of(request: VideoRequest, shots: list[ShotIn]) -> Mode:
    """Return what the model has to do: read a video, begin from a picture, or follow the text alone."""
    if request.video is not None:
        return "v2v"
    return "i2v" if any(shot.first_frame or shot.last_frame for shot in shots) else "t2v"


def _picture(session: Session, owner: Owner, asset_id: str | None, field: str) -> str | None:
    return ready_asset(session, owner, asset_id, kind="picture", field=field).id if asset_id else None


def _strength(request: VideoRequest, model: VideoModel, mode: Mode) -> str | None:
    if mode not in ("v2v", "edit"):
        if request.strength is not None:
            raise AppError("invalid_request", "strength is only for v2v and edit.", field="strength")
        return None
    return str(request.strength if request.strength is not None else model.strength)


def resolved_facts(spec: Spec, model: VideoModel) -> dict[str, object]:
    """Return what was decided for the caller: shown on the job as `resolved`."""
    native = model.native.get(spec.resolution, {}).get(spec.ratio)
    facts: dict[str, object] = {
        "model": model.id,
        "mode": spec.mode,
        "resolution": spec.resolution,
        "ratio": spec.ratio,
        "size": f"{spec.width}x{spec.height}",
        "fps": spec.fps,
        "frames": spec.frames,
        "native_size": f"{native[0]}x{native[1]}" if native else None,
        "steps": model.steps,
        "guidance": str(model.guidance),
    }
    terms = prompt_terms(model, [shot.prompt for shot in spec.shots])
    return facts if terms is None else {**facts, "prompt_terms": terms}
