"""Resolve a request into a Spec: every default is filled in before anything is priced."""

import secrets
from datetime import datetime
from fractions import Fraction

from sqlalchemy.orm import Session

from app.assets.find import ready_asset
from app.assets.owner import AssetOwner
from app.assets.tables import Asset
from app.catalog.demo_terms import prompt_terms
from app.catalog.models import STRENGTH_MODES, Catalog, VideoModel, load_catalog
from app.catalog.sizes import Size, resolve_size
from app.errors import AppError
from app.jobs.adaptive_ratio import with_ratio
from app.jobs.capability import check_length, check_model, check_pictures
from app.jobs.field_types import PROMPT_MAX
from app.jobs.model_life import check_not_retired
from app.jobs.resolve_sound import resolve_sound
from app.jobs.schemas import ShotIn, VideoRequest
from app.jobs.spec import CROSSFADE_SECONDS, Shot, Spec, film_frames, styled
from app.provenance.label_policy import VisibleLabel
from app.settings import get_settings
from pricing.rate_key import Mode

DEFAULT_SECONDS = 5
AUTO = "auto"


def resolve(
    session: Session,
    owner: AssetOwner,
    request: VideoRequest,
    model: VideoModel,
    *,
    seed: int | None = None,
    mode: Mode | None = None,
) -> Spec:
    """Return the Spec of a request for one model. Assets are ids here; the APIs have fetched URLs before.

    `seed` is the default where the request has none, so that a quote and its redemption resolve alike; `mode` is set
    by API routes that imply one (edits, extensions). Raises AppError for what cannot be made, naming the field.
    """
    request = with_ratio(session, owner, request)
    size = resolve_size(request.size, request.resolution, request.ratio)
    shots_in = storyboard(request)
    wanted_mode = mode or mode_of(request, shots_in)
    check_model(model, wanted_mode, size)
    check_pictures(model, shots_in, wanted_mode)
    clip = _source(session, owner, request, wanted_mode)
    shots = tuple(_shot(session, owner, request, model, shot, n) for n, shot in enumerate(shots_in))
    if clip is not None:
        shots = (_cut_to_clip(shots, clip, model, request),)
    check_length(model, shots, fps=model.fps, listed=request.shots is not None)
    crossfade_frames = max(1, int(CROSSFADE_SECONDS * model.fps))
    sound = resolve_sound(request, model)
    track = ready_asset(session, owner, request.audio, kind="sound", field="audio") if request.audio else None
    return Spec(
        model=model.id,
        mode=wanted_mode,
        resolution=size.resolution,
        ratio=size.ratio,
        width=size.width,
        height=size.height,
        fps=model.fps,
        frames=film_frames(shots, crossfade_frames),
        crossfade_frames=crossfade_frames,
        shots=shots,
        style=style_of(request),
        seed=_first_seed(request, seed),
        audio=track.id if track else None,
        **sound,
        video=clip.id if clip else None,
        # The input is as long as the output: a longer clip is read only up to the film's length.
        video_seconds=str(Fraction(shots[0].frames, model.fps)) if clip else "0",
        strength=_strength(request, model, wanted_mode),
        service_tier=request.service_tier,
        deepfake=request.deepfake,
    )


def _first_seed(request: VideoRequest, default: int | None) -> int:
    """Return the seed of a request's first film. Raises AppError `invalid_request` where its seeds contradict it."""
    if request.seeds is None:
        return next((seed for seed in (request.seed, default) if seed is not None), secrets.randbelow(2**31))
    if request.seed is not None:
        raise AppError("invalid_request", "Send either seed or seeds.", field="seed")
    if request.n not in (None, len(request.seeds)):
        message = f"seeds has {len(request.seeds)} seeds, but n is {request.n}."
        raise AppError("invalid_request", message, field="seeds", allowed=request.n)
    if len(set(request.seeds)) < len(request.seeds):
        raise AppError("invalid_request", "The same seed twice would make the same film twice.", field="seeds")
    return request.seeds[0]


def size_of(spec: Spec) -> Size:
    """Return the size that a Spec was resolved to."""
    return Size(spec.resolution, spec.ratio, spec.width, spec.height)


def _shot(
    session: Session, owner: AssetOwner, request: VideoRequest, model: VideoModel, shot: ShotIn, number: int
) -> Shot:
    prefix = f"shots.{number}." if request.shots else ""
    return Shot(
        prompt=styled_prompt(style_of(request), shot.prompt, field=f"{prefix}prompt"),
        negative_prompt=shot.negative_prompt or request.negative_prompt or "",
        seconds=shot.seconds,
        frames=shot.seconds * model.fps,
        transition=shot.transition if number else "cut",
        first_frame=_picture(session, owner, shot.first_frame, f"{prefix}first_frame"),
        last_frame=_picture(session, owner, shot.last_frame, f"{prefix}last_frame"),
    )


def style_of(request: VideoRequest) -> str:
    """Return the style line of a storyboard, "" without one: the prompt of a request that lists its shots."""
    return (request.prompt or "") if request.shots is not None else ""


def styled_prompt(style: str, prompt: str, *, field: str) -> str:
    """Return a prompt with a style line before it. Raises AppError `invalid_request` where both are too long."""
    text = styled(style, prompt)
    if len(text) > PROMPT_MAX:
        message = f"With its style line the prompt has {len(text)} characters; at most {PROMPT_MAX} are allowed."
        raise AppError("invalid_request", message, field=field, allowed=PROMPT_MAX)
    return text


def _source(session: Session, owner: AssetOwner, request: VideoRequest, mode: Mode) -> Asset | None:
    """Return the input clip of v2v and edit, or None for other modes."""
    if mode not in STRENGTH_MODES:
        return None
    if request.video is None:
        raise AppError("invalid_request", f"The mode {mode} needs a video.", field="video")
    if request.shots is not None and len(request.shots) > 1:
        raise AppError("invalid_request", "A request with a video has one shot.", field="shots", allowed=1)
    return ready_asset(session, owner, request.video, kind="clip", field="video")


def _cut_to_clip(shots: tuple[Shot, ...], clip: Asset, model: VideoModel, request: VideoRequest) -> Shot:
    """Return the one shot of a film made from a clip: as long as the clip, or as requested if that is shorter."""
    length = Fraction(clip.seconds or "0")
    available = int(length * model.fps)
    if available < 1:
        raise AppError("asset_refused", "The clip is shorter than one frame of this model.", field="video")
    length_requested = request.seconds is not None or request.shots is not None
    if length_requested and shots[0].frames > available:
        allowed = f"1 to {int(length)}"
        raise AppError("invalid_request", "The clip is shorter than that.", field="seconds", allowed=allowed)
    frames = shots[0].frames if length_requested else available
    return shots[0].model_copy(update={"frames": frames, "seconds": max(1, round(Fraction(frames, model.fps)))})


def candidates(request: VideoRequest, at: datetime, mode: Mode | None = None) -> list[VideoModel]:
    """Return the models that may make this request at a moment: the named one, or for `auto` every capable one.

    Raises AppError `unknown_model`, `model_retired`, or `mode_unsupported` when no enabled model has the mode.
    """
    catalog = load_catalog(get_settings().catalog_dir)
    if request.model != AUTO:
        return [_named_model(catalog, request.model, at)]
    wanted_mode = mode or mode_of(request, storyboard(request))
    size = resolve_size(request.size, request.resolution, request.ratio)
    able = [
        each
        for each in catalog.values()
        if each.enabled and wanted_mode in each.modes and each.native_size(size) and each.family != "synthetic"
        if not each.is_retired(at)
    ]
    if not able:
        raise AppError("mode_unsupported", f"No enabled model can do {wanted_mode} at {size.name}.", field="model")
    return able


def _named_model(catalog: Catalog, name: str, at: datetime) -> VideoModel:
    """Return the enabled model with this id or alias."""
    model = catalog.find(name)
    if model is None or not model.enabled:
        enabled = sorted(each.id for each in catalog.values() if each.enabled and not each.is_retired(at))
        message = f"There is no enabled video model {name!r}; enabled models: {', '.join(enabled)}."
        raise AppError("unknown_model", message, field="model", value=name, allowed=[AUTO, *enabled])
    check_not_retired(model, at)
    return model


def storyboard(request: VideoRequest) -> list[ShotIn]:
    """Return the shots of a request: those it lists, or one made from its prompt.

    Beside shots the prompt is their style line. Raises AppError `invalid_request` when there is neither, or when the
    seconds contradict the shots.
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
    for name in ("first_frame", "last_frame"):
        if getattr(request, name) is not None:
            message = f"With shots, {name} belongs to a shot: shots.0.{name}."
            raise AppError("invalid_request", message, field=name)
    total = sum(shot.seconds for shot in request.shots)
    if request.seconds is not None and request.seconds != total:
        message = f"The shots add up to {total} seconds, but seconds is {request.seconds}."
        raise AppError("invalid_request", message, field="seconds", allowed=[total])
    return request.shots


def mode_of(request: VideoRequest, shots: list[ShotIn]) -> Mode:
    """Return the mode of a request: v2v with a video, i2v with a picture, else t2v."""
    if request.video is not None:
        return "v2v"
    return "i2v" if any(shot.first_frame or shot.last_frame for shot in shots) else "t2v"


def _picture(session: Session, owner: AssetOwner, asset_id: str | None, field: str) -> str | None:
    return ready_asset(session, owner, asset_id, kind="picture", field=field).id if asset_id else None


def _strength(request: VideoRequest, model: VideoModel, mode: Mode) -> str | None:
    if mode not in STRENGTH_MODES:
        if request.strength is not None:
            raise AppError("invalid_request", "strength is only for v2v and edit.", field="strength")
        return None
    return str(request.strength if request.strength is not None else model.strength)


def resolved_facts(spec: Spec, model: VideoModel) -> dict[str, object]:
    """Return the resolved defaults: shown on the job as `resolved`."""
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
    if model.sound or spec.has_sound:
        facts["sound"] = spec.sound
    if spec.style:
        facts["style"] = spec.style
    if spec.deepfake:
        facts["deepfake"] = True
    if spec.visible_label is not VisibleLabel.NONE:
        facts["visible_label"] = str(spec.visible_label)
    terms = prompt_terms(model, [shot.prompt for shot in spec.shots])
    return facts if terms is None else {**facts, "prompt_terms": terms}
