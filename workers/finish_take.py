"""The take of a finish: join the clips, add the sound, make the pictures, mark, store and measure the film, settle."""

import contextvars
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.assets.find import asset_key
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import succeed_finish
from app.jobs.backfill import current_keys
from app.jobs.queue_tables import Unit
from app.jobs.settle import StoredFilm
from app.jobs.sound_files import sound_key, wave_key
from app.jobs.spec import Spec, reused_frames
from app.jobs.tables import Job
from app.provenance.manifest import FilmOrigin
from app.storage import get_storage
from workers.engine import Stopped
from workers.engine.meter import cpu_seconds
from workers.film.film_index import film_index
from workers.film.film_reading import FilmReading, read_film
from workers.film.join import Transition, clip_frames, join
from workers.film.measure import measure
from workers.film.soundtrack import ClipSound, Joint, sample_at
from workers.film.wave_image import WaveImage
from workers.film_check import BrokenFilm, check_film
from workers.film_marks import check_marks, film_origin, metadata, registry_entry, sign
from workers.finish_sound import FilmSound, make_sound
from workers.output_check import check_output, checks_films
from workers.picture_labels import label_pictures
from workers.render_control import RENDERING_SHARE, TakeControl
from workers.running_take import RunningTake


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
    _reading: Future[FilmReading] | None = None
    _film: StoredFilm

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim, TakeControl(share_done=RENDERING_SHARE, share=0.0))
        self._began, self._cpu_began = time.perf_counter(), cpu_seconds()
        self._marks_seconds = self._marks_cpu_seconds = 0.0
        self._prefix = f"films/{claim.job_id}/{claim.take_id}"
        self._film_key = f"{self._prefix}/film.mp4"

    def open(self) -> None:
        """Read the job, and fetch its clips with their sounds, and its audio track."""
        with transaction() as session:
            job = session.get_one(Job, self.claim.job_id)
            self._spec = Spec.model_validate(job.spec)
            self._is_part = job.cancel_requested_at is not None
            self._is_checked = checks_films(session)
            units = session.scalars(
                select(Unit)
                .where(Unit.job_id == job.id, Unit.kind == "segment", Unit.state == "done")
                .order_by(Unit.shot, Unit.position)
            ).all()
            track_key = asset_key(session, self._spec.audio) if self._spec.audio else None
            self._origin = film_origin(session, job.id, self._spec)
            places = current_keys(session, [key for shot in self._spec.shots for key in shot.reuse_clips])
        self._clips = self._fetch_clips(list(units), places)
        if track_key is not None:
            self._track = self.folder / "track"
            get_storage().get_file(track_key, self._track)
        self._check_control()

    def render(self) -> None:
        """Join the clips and their sounds into the film, and sign it. Its pictures are decoded meanwhile."""
        film = pictures = self.folder / "pictures.mp4"
        tags = metadata(self.claim.job_id)
        if len(self._clips) == 1:
            # It has the film's pictures: `upload` makes sure that they are those in the store.
            self._begin_reading(self._clips[0].path)
        join(
            [clip.path for clip in self._clips],
            pictures,
            transitions=[clip.transition for clip in self._clips][1:],
            crossfade_frames=self._spec.crossfade_frames,
            metadata=tags,
        )
        self._check_control()
        if self._reading is None:
            self._begin_reading(pictures)
        self._sound = make_sound(self._spec, self._clip_sounds(), self._track, self.folder)
        self._check_control()
        if self._sound.film is not None:
            film = self.folder / "film.mp4"
            join([pictures], film, audio=self._sound.film, metadata=tags)
            self._check_control()
        # The last step: any later change of the file, even a copy of its streams into another one, breaks the manifest.
        with self._marks_stage():
            sign(film, self.folder / "signed.mp4", self._origin)

    def upload(self) -> None:
        """Check what the film shows, store it, measure the stored film and read its marks back.

        Raises BrokenFilm, UnmarkedFilm, StoppedFilm and UncheckedFilm.
        """
        self._check_control()
        check_output(self.claim, self.folder / "signed.mp4", lambda: self._read_film().frame_hashes)
        self._check_control()
        stored = self.folder / "stored.mp4"
        sha256 = self._store_film(stored)
        # The customer is charged for what is in the store. Its sound is decoded while its pictures still are.
        index = film_index(stored)
        wave = WaveImage(sample_at(index.frames, index.fps))
        measured = measure(stored, decodes_pictures=False, sound_readers=[wave.read])
        if measured.sha256 != sha256:
            raise BrokenFilm("the stored film differs from the one that was uploaded")
        reading = self._read_film()
        measured = measured.as_copy_of(reading.measure)
        if self._is_checked:
            self._store_pictures(self._check_control)
        check_film(self._spec, measured, is_part=self._is_part)
        with self._marks_stage():
            check_marks(stored, self.claim.job_id)
        if measured.has_audio:
            wave.write(self.folder / "wave.png")
            get_storage().put_file(wave_key(self._film_key), self.folder / "wave.png", "image/png")
        self._check_control()
        self._film = StoredFilm(
            key=self._film_key,
            poster_key=f"{self._prefix}/poster.jpg",
            sprites_key=f"{self._prefix}/sprites.jpg",
            sha256=measured.sha256,
            bytes=measured.bytes,
            frames=measured.frames,
            fps=measured.fps,
            width=measured.width,
            height=measured.height,
            has_audio=measured.has_audio,
            reused_frames=self._reused_frames(),
            facts={"sprites": asdict(reading.pictures.sheet)} | ({"wave": True} if measured.has_audio else {}),
            entry=registry_entry(reading.frame_hashes, self._origin),
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
        """Count the time inside the block as that of the film's marks: that of its thread, as another one decodes."""
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self._marks_seconds += time.perf_counter() - began
            self._marks_cpu_seconds += time.thread_time() - cpu_began

    def _watch(self, number: int = -1, frame: Any = None) -> None:
        """Let the thread that decodes go on, frame by frame, for as long as the take does. Raises Stopped."""
        self.control.mark_progress()
        self.control.check()
        if self._has_ended:
            raise Stopped("the take has ended")

    def _check_control(self) -> None:
        """Record progress. Raises Stopped where the worker shall leave or the lease is in doubt, or as the decoding."""
        self.control.mark_progress()
        self.control.check()
        if self._reading is not None and self._reading.done():
            self._reading.result()

    def _fetch_clips(self, units: list[Unit], places: Mapping[str, str]) -> list[_Clip]:
        """Fetch the clips in the film's order, each with the transition that leads into it. Raises BrokenFilm.

        `places` says where those of other films are stored now.
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
                get_storage().get_file(places.get(key, key), path)
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

    def _store_film(self, stored: Path) -> str:
        """Store the film and the model's sound, and fetch the film back to `stored`. Returns its SHA-256 as sent."""
        storage = get_storage()
        if self._sound.of_model is not None:
            storage.put_file(sound_key(self._film_key), self._sound.of_model, "audio/flac")
        sent = storage.put_file(self._film_key, self.folder / "signed.mp4", "video/mp4")
        self._check_control()
        storage.get_file(self._film_key, stored)
        return sent.sha256

    def _begin_reading(self, pictures: Path) -> None:
        """Begin to decode pictures on a thread. A take that ends early ends the decoding with its next frame."""
        reader = self.cleanup.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="read"))
        self._reading = reader.submit(contextvars.copy_context().run, self._read_pictures, pictures)

    def _read_pictures(self, film: Path) -> FilmReading:
        """Decode the film's pictures, and store its poster and its sprite sheet. Runs on a thread of its own.

        Where films are checked, the two are stored after that: nothing of a refused film is.
        """
        reading = read_film(film, [self._watch])
        self._watch()
        label_pictures(reading.pictures, self._spec.visible_label)
        reading.pictures.write(self.folder / "poster.jpg", self.folder / "sprites.jpg")
        if not self._is_checked:
            self._store_pictures(self._watch)
        return reading

    def _read_film(self) -> FilmReading:
        """Wait until the film's pictures are decoded, and return what they are."""
        assert self._reading is not None
        return self._reading.result()

    def _store_pictures(self, check: Callable[[], None]) -> None:
        for name in ("poster.jpg", "sprites.jpg"):
            check()
            get_storage().put_file(f"{self._prefix}/{name}", self.folder / name, "image/jpeg")

    def _reused_frames(self) -> int:
        """Return how many of the film's frames show nothing but shots of another job."""
        spec = self._spec
        crossfades = {clip.shot for clip in self._clips if clip.transition == "crossfade"}
        return reused_frames(spec.shots, [shot in crossfades for shot in range(len(spec.shots))], spec.crossfade_frames)
