"""A chained job whose worker is killed with -9 at seeded moments: the same frames, and no finished segment again."""

import multiprocessing
import random
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from app.catalog.models import VideoModel
from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import film, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine import Continuation, EngineControl, make_engine, segment_seed
from workers.engine.atomic_write import write_durably
from workers.engine.request import Frames

SEGMENTS = (9, 8, 8)
STEPS = 5
KILLS = 20


class ReportingControl(EngineControl):
    """Reports each step through a pipe and waits for the answer, so that the test can kill it at a chosen step."""

    def __init__(self, wire: Connection, segment: int) -> None:
        super().__init__()
        self.wire = wire
        self.segment = segment

    def on_step(self, step: int, steps: int, preview: Frames | None) -> None:
        self.wire.send(("step", self.segment, step))
        self.wire.recv()


def work(model: VideoModel, folder: Path, wire: Connection) -> None:
    """Render the rest of the job, as a worker does that resumes it."""
    engine, handover = make_engine(model, "cpu"), None
    for segment, frames in enumerate(SEGMENTS):
        clip, state = folder / f"{segment}.npy", folder / f"{segment}.handover"
        if not clip.exists():
            segment = request(
                frames=frames, seed=segment_seed(3, 0, segment), steps=STEPS, handover=handover,
                checkpoint_dir=folder, key=f"job/0/{segment}",
            )  # fmt: skip
            wire.send(("begin", segment, 0))
            wire.recv()
            output = film(engine, segment, ReportingControl(wire, segment))
            assert engine.handover is not None
            engine.handover.save(state)
            _store(clip, output)
        handover = Continuation.load(state)
    wire.send(("end", 0, 0))


def _store(path: Path, frames: Frames) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, frames)

    write_durably(path, write)


def one_life(model: VideoModel, folder: Path, moments: int | None) -> Iterator[tuple[str, int, int]]:
    """Run a worker process; after so many of its moments kill it with -9. Yields its output lines."""
    here, there = multiprocessing.Pipe()
    # Forked, so that twenty lives need not import torch twenty times; one thread, so nothing is lost in the fork.
    process = multiprocessing.get_context("fork").Process(target=work, args=(model, folder, there))
    process.start()
    there.close()
    count = 0
    while True:
        try:
            moment = here.recv()
        except EOFError:
            break
        yield moment
        count += 1
        if moment[0] == "end":
            break
        if count == moments:
            process.kill()
            break
        here.send("go")
    process.join()


@pytest.mark.deep
def test_twenty_kills_change_no_frame_and_repeat_no_segment(tiny_wan: TinyWan, tmp_path: Path) -> None:
    model = tiny_model("ti2v", tiny_wan("ti2v"))
    undisturbed = tmp_path / "undisturbed"
    list(one_life(model, undisturbed, None))
    chance = random.Random(20)
    kills, jobs = 0, 0
    while kills < KILLS:
        folder, finished, ended = tmp_path / f"job{jobs}", set[int](), False
        while not ended:
            moments = chance.randint(1, 9) if kills < KILLS else None
            for word, segment, _ in one_life(model, folder, moments):
                assert word == "end" or segment not in finished
                ended = word == "end"
            kills += not ended
            finished |= {number for number in range(len(SEGMENTS)) if (folder / f"{number}.npy").exists()}
        for number in range(len(SEGMENTS)):
            np.testing.assert_array_equal(np.load(folder / f"{number}.npy"), np.load(undisturbed / f"{number}.npy"))
        jobs += 1
    assert kills == KILLS
