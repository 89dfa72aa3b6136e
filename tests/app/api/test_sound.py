"""Sound as it is sold: asked for, refused, mixed, measured in the stored film, and never paid for when it is broken."""

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from app.api.dashscope.translate import to_native
from app.audit_log.actor import SYSTEM_ACTOR
from app.catalog.models import load_catalog
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.jobs.priced import usage_of
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.prices.books import approve_book, draft_book, schedule_book
from app.reports.audit import audit_books
from app.settings import get_settings
from app.wallet.balance import balance
from pricing.books import read_shipped
from tests.api_client import World
from tests.workers.film.clips import clicks_in, white_frames
from workers.engine import Sound
from workers.film.encoding import SOUND_RATE
from workers.film.ffmpeg import ffmpeg_binary
from workers.film.measure import measure
from workers.film.sound_file import read_sound, write_sound

BARS = {"model": "synthetic", "prompt": "bars", "resolution": "480P"}

SOUND_RATE_OF_480P = """
[[rates]]
id = "sound-480p"
resolution = "480P"
audio = true
per_second = "0.60"
input_per_second = "0.15"
"""


@pytest.fixture
def silent_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Add a model without sound to the catalogue, and return its id."""
    bars = files("app.catalog").joinpath("synthetic.toml").read_text(encoding="utf-8")
    folder = tmp_path / "catalog"
    folder.mkdir()
    silent = bars.replace('id = "synthetic"', 'id = "silent"').replace("sound = true", "sound = false")
    (folder / "silent.toml").write_text(silent, encoding="utf-8")
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(folder))
    get_settings.cache_clear()
    load_catalog.cache_clear()
    yield "silent"
    monkeypatch.undo()
    get_settings.cache_clear()
    load_catalog.cache_clear()


def order(world: World, **fields: Any) -> dict[str, Any]:
    response = world.post("/v1/videos", {**BARS, **fields})
    assert response.status_code == 200, response.text
    return dict(response.json())


def finished(world: World, video_id: str) -> dict[str, Any]:
    world.work()
    video = world.get(f"/v1/videos/{video_id}").json()
    assert video["status"] == "completed", video
    return dict(video)


def film_of(world: World, video_id: str, folder: Path) -> Path:
    path = folder / f"{video_id}.mp4"
    path.write_bytes(world.get(f"/v1/videos/{video_id}/content").content)
    return path


def spec_of(video_id: str) -> Spec:
    with transaction() as session:
        return Spec.model_validate(session.get_one(Job, video_id).spec)


def balance_of(world: World) -> int:
    with transaction() as session:
        return balance(session, world.alice_id).available


def track(path: Path, seconds: float = 2.0) -> Path:
    wave = 0.1 * np.sin(2 * np.pi * 330 * np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE)
    write_sound(path, np.repeat(wave[:, None], 2, axis=1).astype(np.float32))
    return path


def test_a_model_that_sounds_makes_a_film_with_sound(world: World, tmp_path: Path) -> None:
    shots = [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 7, "transition": "crossfade"}]
    shots.append({"prompt": "c", "seconds": 2})
    video = order(world, prompt=None, shots=shots)
    assert video["resolved"]["sound"] is True
    finished(world, video["id"])
    film = film_of(world, video["id"], tmp_path)
    # The shot of seven seconds is rendered in two segments.
    white, heard = white_frames(film), clicks_in(read_sound(film))
    assert len(white) == len(heard) == 4
    fps = spec_of(video["id"]).fps
    assert all(abs(at - 24 - frame * SOUND_RATE / fps) <= 48 for frame, at in zip(white, heard, strict=True))
    wave = world.get(f"/v1/videos/{video['id']}/content?variant=waveform")
    assert (wave.status_code, wave.headers["content-type"]) == (200, "image/png")
    assert wave.content.startswith(b"\x89PNG")
    with transaction() as session:
        assert audit_books(session) == []


def test_a_film_may_be_silent(world: World, tmp_path: Path) -> None:
    for silence in ({"sound": False}, {"generate_audio": False}):
        video = order(world, seconds=1, **silence)
        assert video["resolved"]["sound"] is False
        finished(world, video["id"])
        assert not measure(film_of(world, video["id"], tmp_path)).has_audio
        assert world.get(f"/v1/videos/{video['id']}/content?variant=waveform").status_code == 404
        assert not usage_of(spec_of(video["id"])).key.audio


def test_sound_asked_of_a_silent_model_is_refused_by_name(world: World, silent_model: str) -> None:
    before = balance_of(world)
    refused = world.post("/v1/videos", {**BARS, "model": silent_model, "sound": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "sound_unsupported")
    assert refused.json()["field"] == "sound"
    assert "synthetic" in refused.json()["allowed"]
    assert silent_model not in refused.json()["allowed"]
    assert balance_of(world) == before
    # What is no demand is none.
    for lenient in ({}, {"sound": "auto"}, {"generate_audio": True}):
        video = order(world, model=silent_model, **lenient)
        assert "sound" not in video["resolved"]


def test_the_models_say_which_of_them_sound_and_at_what_rate(world: World, silent_model: str) -> None:
    models = {each["id"]: each for each in world.get("/v1/models").json()["data"]}
    assert models["synthetic"]["sound"] is True
    assert models[silent_model]["sound"] is False
    for price in models["synthetic"]["prices"]:
        assert price["sound_per_second"] == price["per_second"], "the default book asks nothing more"
        assert price["sound_list_per_second"] == price["list_per_second"]
    assert {price["sound_per_second"] for price in models[silent_model]["prices"]} == {None}


def test_a_book_may_ask_more_for_sound(
    world: World, engine: Engine, silent_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = read_shipped().replace('name = "2026-04-27"', 'name = "sound"\nbased_on = "2026-04-27"', 1)
    with transaction(engine) as session:
        book = draft_book(session, SYSTEM_ACTOR, text + SOUND_RATE_OF_480P)
        approve_book(session, SYSTEM_ACTOR, book.id, content_hash=book.content_hash)
        schedule_book(session, SYSTEM_ACTOR, book.id, now(session) + timedelta(seconds=30))
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "60")
    get_settings.cache_clear()
    models = {each["id"]: each for each in world.get("/v1/models").json()["data"]}
    price = next(each for each in models["synthetic"]["prices"] if each["resolution"] == "480P")
    assert (price["list_per_second"], price["sound_list_per_second"]) == ("0.45", "0.60")
    before = balance_of(world)
    # 2 s at 0.60 or 0.45, x 0.65 for the membership, x 0.75 for the launch offer.
    sounding, silenced, silent = (
        order(world, seconds=2, **fields) for fields in ({}, {"sound": False}, {"model": silent_model})
    )
    assert [video["price"]["total"] for video in (sounding, silenced, silent)] == ["0.59", "0.44", "0.44"]
    assert [finished(world, video["id"])["charged"] for video in (sounding, silenced)] == ["0.59", "0.44"]
    receipt = world.get(f"/v1/videos/{sounding['id']}/receipt").json()
    assert receipt["lines"][0]["rule"] == "rate:sound-480p", receipt
    with transaction() as session:
        assert audit_books(session) == []
    assert balance_of(world) == before - 59 - 44 - 44, "the silent model's film is still on hold"


def test_a_track_replaces_or_is_mixed(world: World, tmp_path: Path) -> None:
    with track(tmp_path / "track.flac").open("rb") as file:
        asset = world.post("/v1/assets", files={"file": ("track.flac", file, "audio/flac")}).json()["id"]
    alone = order(world, seconds=2, audio=asset)
    assert (spec_of(alone["id"]).sound, spec_of(alone["id"]).audio) == (False, asset)
    mixed = order(world, seconds=2, audio=asset, sound=True, sound_gain="6", audio_gain="-20.50")
    assert (spec_of(mixed["id"]).sound_gain, spec_of(mixed["id"]).audio_gain) == ("6", "-20.5")
    finished(world, mixed["id"])
    replaced, both = (read_sound(film_of(world, each["id"], tmp_path)) for each in (alone, mixed))
    middle = slice(SOUND_RATE, SOUND_RATE + SOUND_RATE // 2)
    assert np.abs(replaced[middle]).max() == pytest.approx(0.1, rel=0.1), "an uploaded track keeps its loudness"
    assert len(clicks_in(both)) == 1
    assert 0 < np.abs(both[middle]).max() < np.abs(both).max() / 10


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sound_gain": "3"}, "sound_gain"),
        ({"audio_gain": "3", "sound": False}, "audio_gain"),
        ({"sound": True, "generate_audio": False}, "generate_audio"),
        ({"sound": "loud"}, "sound"),
        ({"sound": True, "audio_gain": "13"}, "audio_gain"),
    ],
)
def test_what_contradicts_itself_is_refused(world: World, fields: dict[str, Any], field: str) -> None:
    before = balance_of(world)
    refused = world.post("/v1/videos", {**BARS, **fields})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), refused.text
    assert refused.json()["field"].startswith(field)
    assert balance_of(world) == before


def test_a_film_with_sound_is_retaken_and_extended_with_it(world: World, tmp_path: Path) -> None:
    first = order(world, prompt=None, shots=[{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": 2}])
    finished(world, first["id"])
    retaken = world.post(f"/v1/videos/{first['id']}/retakes", {"shot": 1, "prompt": "c"}).json()
    finished(world, retaken["id"])
    extended = world.post("/v1/videos/extensions", {"video": retaken["id"], "prompt": "d", "seconds": 2}).json()
    finished(world, extended["id"])
    film = film_of(world, extended["id"], tmp_path)
    white, heard = white_frames(film), clicks_in(read_sound(film))
    assert len(white) == len(heard) == 3
    assert all(abs(at - 24 - frame * SOUND_RATE / 16) <= 48 for frame, at in zip(white, heard, strict=True))


@pytest.mark.parametrize("broken", ["nan", "silence", "nothing"])
def test_a_model_that_breaks_its_sound_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def make(request: Any) -> Sound | None:
        samples = np.zeros((SOUND_RATE * request.frames // request.fps, 2), np.float32)
        if broken == "nan":
            samples[100] = np.nan
        return None if broken == "nothing" else Sound(samples)

    monkeypatch.setattr("workers.engine.synthetic._click", make)
    monkeypatch.setenv("CINEMETER_TAKES_ERROR_MAX", "1")
    get_settings.cache_clear()
    before = balance_of(world)
    video = order(world, seconds=1)
    world.work()
    failed = world.get(f"/v1/videos/{video['id']}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "bad_sound")
    assert balance_of(world) == before
    with transaction() as session:
        assert audit_books(session) == []


def test_tracks_that_cannot_be_used_are_refused_before_money(world: World, tmp_path: Path) -> None:
    hours = tmp_path / "hours.flac"
    source = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "36000"]
    subprocess.run([ffmpeg_binary(), "-v", "error", *source, str(hours)], check=True)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + bytes(200))
    cut = tmp_path / "cut.flac"
    cut.write_bytes(hours.read_bytes()[:50])
    before = balance_of(world)
    for path in (hours, broken, cut):
        with path.open("rb") as file:
            refused = world.post("/v1/videos", data={**BARS, "sound": "true"}, files={"audio": (path.name, file)})
        assert (refused.status_code, refused.json()["code"]) == (422, "asset_refused"), path.name
        assert refused.json()["field"] == "audio"
        assert "longer than 600 seconds" in refused.json()["detail"] or path != hours
    assert balance_of(world) == before
    assert world.get("/v1/videos").json()["data"] == []


def test_dashscope_clients_switch_the_sound_by_their_own_names() -> None:
    for name in ("audio", "generate_audio"):
        for value in (True, False):
            task = to_native({"model": "m", "input": {"prompt": "x"}, "parameters": {name: value}})
            request = VideoRequest.model_validate(task.values)
            assert (request.sound, request.generate_audio) == ("auto", value)
    with pytest.raises(AppError):
        to_native({"model": "m", "input": {}, "parameters": {"audio": True, "generate_audio": True}})


def test_a_spec_without_sound_is_written_as_before_there_was_any() -> None:
    recorded = (
        '{"version":1,"model":"demo","mode":"t2v","resolution":"720P","ratio":"16:9","width":1280,"height":720,'
        '"fps":8,"frames":40,"crossfade_frames":4,"shots":[{"prompt":"a red circle","negative_prompt":"","seconds":5,'
        '"frames":40,"transition":"cut","first_frame":null,"last_frame":null,"reuse_clips":[]}],"seed":7,'
        '"audio":null,"video":null,"video_seconds":"0","strength":null,"service_tier":"standard"}'
    )
    spec = Spec.model_validate_json(recorded)
    assert spec.canonical() == recorded
    sounding = spec.model_copy(update={"sound": True, "audio_gain": "-6"})
    assert sounding.canonical() != recorded
    assert Spec.model_validate_json(sounding.canonical()) == sounding
    assert sounding.model_dump(mode="json")["sound"] is True
    assert "sound_gain" not in sounding.model_dump()
