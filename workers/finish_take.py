"""The take of a finish: join the clips, add the sound, make the pictures, mark, store and measure the film, settle."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.assets.find import asset_key
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import succeed_finish
from app.jobs.queue_tables import Unit
from app.jobs.settle import StoredFilm
from app.jobs.sound_files import sound_key, wave_key
from app.jobs.spec import Spec, reused_frames
from app.jobs.tables import Job
from app.provenance.manifest import FilmOrigin
from app.storage import get_storage
from workers.engine.meter import cpu_seconds
from workers.film.encoding import FilmError
from workers.film.join import Transition, clip_frames, join
from workers.film.measure import Measure, measure
from workers.film.soundtrack import ClipSound, Joint, sample_at
from workers.film.thumbnails import SheetGeometry, poster, spritesheet
from workers.film.wave_image import wave_image
from workers.film_marks import check_marks, film_origin, metadata, registry_entry, sign
from workers.finish_sound import FilmSound, make_sound
from workers.output_check import check_output
from workers.picture_labels import label_pictures
from workers.render_control import RENDERING_SHARE, TakeControl
from workers.running_take import RunningTake

# A film's sound ends with its pictures, up to one packet of AAC (1024 samples).
SOUND_DEVIATION_SECONDS = Fraction(1024, 48_000)


class BrokenFilm(FilmError):
    """The stored film is not what the job is to deliver; the take fails and nothing is charged for it."""


class _Clip(NamedTuple):
    """A fetched clip with its sound, its shot, and how it begins."""

    path: Path
    sound: Path | None
    shot: int
    transition: Transition


class FinishTake(RunningTake):
    """Makes the film of a job from the clips of its segments. A failed upload is a failed finish."""

    _spec: Spec
    _origin: FilmOrigin
    _is_part: bool  # a cancelled job delivers the segments that were done
    _clips: list[_Clip]
    _track: Path | None = None
    _sound = FilmSound(None, None)
    _sprites: SheetGeometry
    _film: StoredFilm

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim, TakeControl(share_done=RENDERING_SHARE, share=0.0))
        self._began, self._cpu_began = time.perf_counter(), cpu_seconds()
        self._marks_seconds = self._marks_cpu_seconds = 0.0

    def open(self) -> None:
        """Read the job, and fetch its clips with their sounds, and its audio track."""
        with transaction() as session:
            job = session.get_one(Job, self.claim.job_id)
            self._spec = Spec.model_validate(job.spec)
            self._is_part = job.cancel_requested_at is not None
            units = session.scalars(
                select(Unit)
                .where(Unit.job_id == job.id, Unit.kind == "segment", Unit.state == "done")
                .order_by(Unit.shot, Unit.position)
            ).all()
            track_key = asset_key(session, self._spec.audio) if self._spec.audio else None
            self._origin = film_origin(session, job.id, self._spec)
        self._clips = self._fetch_clips(list(units))
        if track_key is not None:
            self._track = self.folder / "track"
            get_storage().get_file(track_key, self._track)
        self._check_control()

    def render(self) -> None:
        """Join the clips and their sounds into the film, and make its poster, its sprite sheet and its wave."""
        film = self.folder / "film.mp4"
        self._sound = make_sound(self._spec, self._clip_sounds(), self._track, self.folder)
        self._check_control()
        join(
            [clip.path for clip in self._clips],
            film,
            transitions=[clip.transition for clip in self._clips][1:],
            crossfade_frames=self._spec.crossfade_frames,
            audio=self._sound.film,
            metadata=metadata(self.claim.job_id),
        )
        self._check_control()
        facts = measure(film, decode="keys")
        poster(film, self.folder / "poster.jpg", measure=facts)
        self._sprites = spritesheet(film, self.folder / "sprites.jpg", measure=facts)
        with self._marks_stage():
            pictures = self.folder / "poster.jpg", self.folder / "sprites.jpg"
            label_pictures(*pictures, self._sprites, self._spec.visible_label)
        if facts.has_audio:
            wave_image(film, self.folder / "wave.png", samples=sample_at(facts.frames, facts.fps))
        # The last step: any later change of the file, even a copy of its streams into another one, breaks the manifest.
        with self._marks_stage():
            sign(film, self.folder / "signed.mp4", self._origin)

    def upload(self) -> None:
        """Check what the film shows, store it with its pictures, measure what is stored and read its marks back.

        Raises BrokenFilm, UnmarkedFilm, StoppedFilm and UncheckedFilm.
        """
        self._check_control()
        check_output(self.claim, self.folder / "signed.mp4")
        self._check_control()
        storage, prefix = get_storage(), f"films/{self.claim.job_id}/{self.claim.take_id}"
        storage.put_file(f"{prefix}/poster.jpg", self.folder / "poster.jpg", "image/jpeg")
        storage.put_file(f"{prefix}/sprites.jpg", self.folder / "sprites.jpg", "image/jpeg")
        if self._sound.of_model is not None:
            storage.put_file(sound_key(f"{prefix}/film.mp4"), self._sound.of_model, "audio/flac")
        if self._sound.film is not None:
            storage.put_file(wave_key(f"{prefix}/film.mp4"), self.folder / "wave.png", "image/png")
        stored_file = storage.put_file(f"{prefix}/film.mp4", self.folder / "signed.mp4", "video/mp4")
        self._check_control()
        # Read back from storage: the customer is charged for what is there.
        stored = self.folder / "stored.mp4"
        storage.get_file(f"{prefix}/film.mp4", stored)
        measured = measure(stored)
        if measured.sha256 != stored_file.sha256:
            raise BrokenFilm("the stored film differs from the one that was uploaded")
        _check(self._spec, measured, is_part=self._is_part)
        with self._marks_stage():
            check_marks(stored, self.claim.job_id)
            entry = registry_entry(stored, measured, self._origin)
        self._film = StoredFilm(
            key=f"{prefix}/film.mp4",
            poster_key=f"{prefix}/poster.jpg",
            sprites_key=f"{prefix}/sprites.jpg",
            sha256=measured.sha256,
            bytes=measured.bytes,
            frames=measured.frames,
            fps=measured.fps,
            width=measured.width,
            height=measured.height,
            has_audio=measured.has_audio,
            reused_frames=self._reused_frames(),
            facts={"sprites": asdict(self._sprites)} | ({"wave": True} if measured.has_audio else {}),
            entry=entry,
        )

    def succeed(self, session: Session) -> None:
        """Complete the job with its film and settle it. Raises LeaseLost."""
        succeed_finish(session, self.claim, self._film, meter=self.meter())

    def meter(self) -> dict[str, Any]:
        """Return the seconds and the processor seconds of this finish until now."""
        seconds, cpu = time.perf_counter() - self._began, cpu_seconds() - self._cpu_began
        marks, marks_cpu = self._marks_seconds, self._marks_cpu_seconds
        return {
            "seconds": {"finish": round(seconds - marks, 6), "marks": round(marks, 6)},
            "cpu_seconds": {"finish": round(cpu - marks_cpu, 6), "marks": round(marks_cpu, 6)},
            "gpu_seconds": "0",
        }

    @contextmanager
    def _marks_stage(self) -> Iterator[None]:
        """Count the time inside the block as that of the film's marks."""
        began, cpu_began = time.perf_counter(), cpu_seconds()
        try:
            yield
        finally:
            self._marks_seconds += time.perf_counter() - began
            self._marks_cpu_seconds += cpu_seconds() - cpu_began

    def _check_control(self) -> None:
        """Record progress, and raise Stopped where the worker shall leave or the lease is in doubt."""
        self.control.mark_progress()
        self.control.check()

    def _fetch_clips(self, units: list[Unit]) -> list[_Clip]:
        """Fetch the clips in the film's order, each with the transition that leads into it. Raises BrokenFilm.

        Segments of one shot are always cut together. In a part of a film (cancelled), a crossfade is kept only where
        both of its shots are whole and neighbours; elsewhere the clips are cut.
        """
        clips: list[_Clip] = []
        is_previous_whole = False
        for number, shot in enumerate(self._spec.shots):
            own = [unit for unit in units if unit.shot == number]
            keys: list[str | None] = [*shot.reuse_clips] or [unit.clip_key for unit in own]
            is_whole = bool(shot.reuse_clips) or sum(unit.frames for unit in own) == shot.frames
            for index, key in enumerate(keys):
                if key is None:
                    raise BrokenFilm(f"shot {number} has a segment without a clip")
                path = self.folder / f"clip-{number:03d}-{index:03d}.mp4"
                get_storage().get_file(key, path)
                sound = path.with_suffix(".flac") if self._spec.sound else None
                if sound is not None:
                    get_storage().get_file(sound_key(key), sound)
                is_join = index == 0 and number > 0 and is_previous_whole and is_whole
                clips.append(_Clip(path, sound, number, shot.transition if is_join else "cut"))
            if not is_whole and not self._is_part:
                raise BrokenFilm(f"shot {number} is not whole")
            is_previous_whole = is_whole
        if not clips:
            raise BrokenFilm("there is no clip to join")
        return clips

    def _clip_sounds(self) -> list[ClipSound]:
        """Return the sounds of the clips with the joints between them; none where the film has no sound of a model."""
        sounds: list[ClipSound] = []
        previous: _Clip | None = None
        for clip in self._clips:
            joint: Joint = "continued" if previous is not None and previous.shot == clip.shot else clip.transition
            if clip.sound is not None:
                sounds.append(ClipSound(clip.sound, clip_frames(clip.path), joint))
            previous = clip
        return sounds

    def _reused_frames(self) -> int:
        """Return how many of the film's frames show nothing but shots of another job."""
        spec = self._spec
        crossfades = {clip.shot for clip in self._clips if clip.transition == "crossfade"}
        return reused_frames(spec.shots, [shot in crossfades for shot in range(len(spec.shots))], spec.crossfade_frames)


def _check(spec: Spec, measured: Measure, *, is_part: bool) -> None:
    """Compare the stored film with what was ordered. Raises BrokenFilm."""
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
