"""Derive a new order from an existing film: remix it, retake one shot, or extend it."""

import secrets
from fractions import Fraction

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.assets.limits import ingest_slot
from app.assets.tables import Asset
from app.catalog.models import VideoModel, load_catalog
from app.db import commit_early
from app.errors import AppError
from app.jobs.backfill import current_keys
from app.jobs.capability import check_length, check_model, check_sound
from app.jobs.queue_tables import Unit
from app.jobs.resolve import size_of, styled_prompt
from app.jobs.sound_files import sound_key
from app.jobs.spec import Shot, Spec, film_frames
from app.jobs.states import JobState, UnitState
from app.jobs.tables import Job
from app.settings import get_settings
from app.storage import get_storage


def remix(job: Job, *, prompt: str, seed: int | None = None) -> Spec:
    """Return the Spec of a variation of a film: the same settings and, unless `seed` is set, the same seed.

    With the same seed the composition stays and the new prompt changes its content. Raises AppError `conflict` for a
    film of several shots, whose shots are retaken one by one.
    """
    spec = finished_spec(job)
    if len(spec.shots) > 1:
        message = "A storyboard cannot be remixed as a whole; retake its shots one by one."
        raise AppError("conflict", message, field="prompt")
    shot = spec.shots[0].model_copy(update={"prompt": prompt, "reuse_clips": ()})
    return spec.model_copy(update={"shots": (shot,), "style": "", "seed": spec.seed if seed is None else seed})


def retake(
    session: Session,
    job: Job,
    *,
    shot: int,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    seed: int | None = None,
) -> Spec:
    """Return the Spec of a film in which one shot (counted from 0) is rendered again and every other clip is reused.

    Only the new shot's seconds are paid. Before it is ordered, `check_clips` looks whether the clips are still stored.
    Raises AppError `invalid_request` for a shot that does not exist or a prompt too long, `conflict` for a film of one
    shot, and `gone` when a shot has no clips to reuse.
    """
    spec = finished_spec(job)
    if not 0 <= shot < len(spec.shots):
        message = f"The film has {len(spec.shots)} shots, counted from 0."
        raise AppError("invalid_request", message, field="shot", value=shot, allowed=f"0 to {len(spec.shots) - 1}")
    if len(spec.shots) == 1:
        raise AppError("conflict", "The film has one shot; remix it instead.", field="shot")
    old = spec.shots[shot]
    if spec.mode == "extend" and shot == 0:
        message = "That shot is the film that was extended; retake the shots of that film instead."
        raise AppError("conflict", message, field="shot", value=shot, allowed="1")
    new_shot = old.model_copy(
        update={
            "prompt": styled_prompt(spec.style, prompt, field="prompt") if prompt else old.prompt,
            "negative_prompt": old.negative_prompt if negative_prompt is None else negative_prompt,
            "reuse_clips": (),
        }
    )
    shots = tuple(
        new_shot if number == shot else _reused(session, job, spec, number) for number in range(len(spec.shots))
    )
    new_seed = secrets.randbelow(2**31) if seed is None else seed
    return spec.model_copy(update={"shots": shots, "seed": new_seed})


def _reused(session: Session, job: Job, spec: Spec, number: int) -> Shot:
    shot = spec.shots[number]
    keys = shot.reuse_clips or tuple(
        key
        for key in session.scalars(
            select(Unit.clip_key)
            .where(Unit.job_id == job.id, Unit.kind == "segment", Unit.shot == number, Unit.state == UnitState.DONE)
            .order_by(Unit.position)
        )
        if key is not None
    )
    if not keys:
        raise _clips_gone(number)
    return shot.model_copy(update={"reuse_clips": keys})


def check_clips(session: Session, account_id: str, spec: Spec) -> None:
    """Check that the clips which a retake reuses are still in storage.

    What the session has done before is committed first. Raises AppError `gone`, and `rate_limited` or `unavailable`
    while too many files are being read.
    """
    places = current_keys(session, [key for shot in spec.shots for key in shot.reuse_clips])
    commit_early(session)
    storage = get_storage()
    with ingest_slot(account_id):
        for number, shot in enumerate(spec.shots):
            needed = [
                *(places[key] for key in shot.reuse_clips),
                *(sound_key(key) for key in shot.reuse_clips if spec.sound),
            ]
            if any(storage.stat(key) is None for key in needed):
                raise _clips_gone(number)


def _clips_gone(number: int) -> AppError:
    return AppError("gone", f"The clips of shot {number} are no longer in storage.", shot=number)


def extension(job: Job, source: Asset, *, prompt: str, seconds: int, seed: int | None = None) -> Spec:
    """Return the Spec of a longer film: the existing one unchanged, then a new shot that continues it.

    `source` is the existing film as an asset, whose last frames the new shot continues. Only the new seconds are paid,
    and those frames count as the input. Raises AppError `mode_unsupported` when the model cannot extend, and
    `invalid_request` when the shot or the whole film would be too long for it.
    """
    spec = finished_spec(job)
    model = _model(spec)
    check_model(model, "extend", size_of(spec))
    frames = int(job.film["frames"]) if job.film else spec.frames
    before = Shot(
        prompt=spec.shots[-1].prompt,
        seconds=max(1, round(Fraction(frames, spec.fps))),
        frames=frames,
        reuse_clips=(str(job.film_key),),
    )
    following = Shot(prompt=prompt, seconds=seconds, frames=seconds * spec.fps)
    shots = (before, following)
    check_length(model, (following,), fps=spec.fps, listed=False, before=Fraction(frames, spec.fps))
    return spec.model_copy(
        update={
            "mode": "extend",
            "shots": shots,
            "style": "",
            "frames": film_frames(shots, spec.crossfade_frames),
            "video": source.id,
            "video_seconds": str(Fraction(min(model.handover_frames * model.pace(spec.fps), frames), spec.fps)),
            "strength": None,
            "seed": secrets.randbelow(2**31) if seed is None else seed,
        }
    )


def finished_spec(job: Job) -> Spec:
    """Return the Spec of a job whose film can be reused.

    Raises AppError `conflict` or `gone`, `unknown_model` where its model is off, `mode_unsupported` where the model no
    longer makes films at its rate, and `sound_unsupported` where its model has lost its sound.
    """
    if job.state != JobState.COMPLETED:
        message = f"The video is {job.state}; only a completed video can be reused."
        raise AppError("conflict", message, state=job.state)
    if job.files_removed_at is not None:
        raise AppError("gone", "The files of this video were deleted when their retention ended.")
    spec = Spec.model_validate(job.spec)
    model = _model(spec)
    model.pace(spec.fps)
    if spec.sound:
        check_sound(model)
    return spec


def _model(spec: Spec) -> VideoModel:
    model = load_catalog(get_settings().catalog_dir).get(spec.model)
    if model is None or not model.enabled:
        raise AppError("unknown_model", f"The model {spec.model} of this video is no longer enabled.", field="model")
    return model
