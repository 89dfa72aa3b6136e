"""The inputs of a segment: exactly its own part of a source clip, whatever lengths the segments have."""

from fractions import Fraction
from pathlib import Path

import pytest

from app.db import transaction
from app.jobs.tables import Job
from tests.api_client import World
from tests.factories import units_of
from tests.workers.film.clips import number_of, write_clip
from workers.segment_input import read_segment_input
from workers.segment_request import build_segment_request

SECONDS, FPS = 11, 16


@pytest.mark.parametrize("url", ["/v1/videos", "/v1/videos/edits"])
def test_the_segments_of_an_edit_read_its_clip_from_end_to_end(world: World, tmp_path: Path, url: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(SECONDS * FPS), fps=Fraction(FPS))
    with clip.open("rb") as file:
        asset = world.post("/v1/assets", files={"file": ("clip.mp4", file, "video/mp4")}).json()
    body = {"model": "synthetic", "prompt": "bars", "video": asset["id"], "resolution": "480P", "ratio": "4:3"}
    job = world.post(url, body).json()
    seen, lengths = [], []
    with transaction() as session:
        units = units_of(session, session.get_one(Job, job["id"]))
    for each in (unit for unit in units if unit.kind == "segment"):
        with transaction() as session:
            segment = read_segment_input(session, each.id)
        video = build_segment_request(segment).video
        assert video is not None
        lengths.append(len(video))
        seen += [number_of(frame) for frame in video]
    assert len(set(lengths)) > 1, "segments of one length would hide a wrong place"
    assert seen == list(range(SECONDS * FPS))


def test_a_model_with_an_upscaler_reads_its_own_frames_only(world: World, tmp_path: Path) -> None:
    """The demo model makes every second frame of its films, so it is shown every second frame of a clip."""
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(SECONDS * FPS), fps=Fraction(FPS))
    with clip.open("rb") as file:
        asset = world.post("/v1/assets", files={"file": ("clip.mp4", file, "video/mp4")}).json()
    body = {"model": "demo", "prompt": "a red circle", "video": asset["id"], "resolution": "480P", "ratio": "4:3"}
    job = world.post("/v1/videos/edits", body).json()
    seen = []
    with transaction() as session:
        units = [unit for unit in units_of(session, session.get_one(Job, job["id"])) if unit.kind == "segment"]
    for unit in units:
        with transaction() as session:
            segment = read_segment_input(session, unit.id)
        request = build_segment_request(segment)
        assert (request.frames, request.fps) == (unit.frames, FPS)
        assert request.video is not None
        seen += [number_of(frame) for frame in request.video]
    assert seen == list(range(0, SECONDS * FPS, 2))
