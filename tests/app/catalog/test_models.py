"""Video models as data: strict files, true facts, and how a shot is split into segments."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.errors import CatalogError
from app.catalog.models import VideoModel, load_catalog, models_with, parse_model, require_model
from app.catalog.sizes import SIZES, resolve_size
from app.errors import AppError

MINIMAL = """
id = "tiny"
name = "Tiny"
family = "synthetic"
pool = "synthetic"
licence = "Apache-2.0"
modes = ["t2v"]
fps = 8
frames_max = 41
shot_seconds_max = 5
film_seconds_max = 60
steps = 4
[native."720P"]
"16:9" = [256, 144]
"""


def test_the_shipped_catalogue_holds_the_promised_models() -> None:
    catalog = load_catalog()
    promised = {"demo", "synthetic", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b"}
    assert promised <= set(catalog)
    assert {each.id for each in catalog.values() if each.enabled} == {"demo", "synthetic"}
    assert all(each.licence for each in catalog.values())


@pytest.mark.parametrize("model_id", ["demo", "synthetic"])
def test_enabled_models_render_every_sold_size(model_id: str) -> None:
    model = require_model(model_id)
    for size in SIZES:
        width, height = model.native_size(size) or (0, 0)
        assert abs(width / height / (size.width / size.height) - 1) < 0.1, size


def test_an_unknown_or_disabled_model_is_refused_with_the_allowed_ones() -> None:
    for name in ("no-such-model", "wan2.1-t2v-14b", ""):
        with pytest.raises(AppError) as refusal:
            require_model(name)
        assert refusal.value.code == "unknown_model"
        assert refusal.value.facts["allowed"] == ["demo", "synthetic"]


def test_models_with_a_mode() -> None:
    assert "demo" in {each.id for each in models_with("t2v")}


def test_an_operators_folder_adds_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(MINIMAL + "\n", encoding="utf-8")
    (tmp_path / "syn.toml").write_text(MINIMAL.replace('"tiny"', '"synthetic"'), encoding="utf-8")
    catalog = load_catalog(tmp_path)
    assert catalog["tiny"].fps == 8
    assert catalog["synthetic"].name == "Tiny"


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(MINIMAL, encoding="utf-8")
    with pytest.raises(CatalogError, match="both define the model tiny"):
        load_catalog(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 4", "steps = 0", "steps"),
        ("steps = 4", "steps = 4\nguidence = 3.0", "guidence"),
        ("frames_max = 41", "frames_max = 40", "4 \\* k \\+ 1"),
        ('modes = ["t2v"]', 'modes = ["dream"]', "modes"),
        ('modes = ["t2v"]', 'modes = ["t2v", "extend"]', "handover"),
        ('modes = ["t2v"]', 'modes = ["t2v"]\nlast_frame = "optional"', "last_frame needs"),
        ("shot_seconds_max = 5", "shot_seconds_max = 9", "shot_seconds_max"),
        ('"16:9" = [256, 144]', '"16:9" = [256, 145]', "multiples"),
        ('"16:9" = [256, 144]', '"21:9" = [256, 144]', "no such ratio"),
        ('[native."720P"]', '[native."8K"]', "no such resolution"),
        ('family = "synthetic"', 'family = "wan"', "needs weights"),
        ('family = "synthetic"', 'family = "kandinsky6"\nhandover_frames = 5', "shown one frame"),
        ("steps = 4", "steps = = 4", "not valid TOML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(old: str, new: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as problem:
        parse_model(MINIMAL.replace(old, new, 1), "tiny.toml")
    assert "tiny.toml" in str(problem.value)


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("cfg_batch = true", "no switches.cfg_batch"),
        ('lora = "somebody/style"', "no switches.lora"),
        ("compile = true", "trim_text = false"),
    ],
)
def test_kandinsky_refuses_switches_that_it_does_not_have(switch: str, message: str) -> None:
    text = MINIMAL.replace('"synthetic"', '"kandinsky6"', 1) + f"[switches]\n{switch}\n"
    with pytest.raises(CatalogError, match=message):
        parse_model(text, "tiny.toml")


def test_a_lossy_switch_needs_a_name_that_says_so() -> None:
    lossy = MINIMAL + "[switches]\nfirst_block_cache = 0.05\n"
    with pytest.raises(CatalogError, match="-turbo"):
        parse_model(lossy, "tiny.toml")
    assert parse_model(lossy.replace('"tiny"', '"tiny-turbo"', 1), "tiny.toml").switches.lossy


@given(st.sampled_from(sorted(load_catalog())), st.integers(1, 2000), st.booleans())
def test_segments_give_exactly_the_frames_and_fit_the_model(model_id: str, frames: int, is_native: bool) -> None:
    model = load_catalog()[model_id]
    fps = model.native_fps if is_native else model.fps
    if model.handover == "none" and frames > model.frames_max:
        with pytest.raises(AppError):
            model.segments(frames, fps)
        return
    segments = model.segments(frames, fps)
    assert sum(segments) == frames
    for index, fresh in enumerate(segments):
        assert fresh > 0
        rendered = model.native_frames(fresh, fps) + (model.handover_frames if index else 0)
        assert model.rendered_frames(rendered) <= model.frames_max
    for fresh in segments[:-1]:
        assert fresh % model.pace(fps) == 0, "the next segment begins with a native frame"


def test_an_upscaler_draws_films_at_its_own_rate_and_at_the_models() -> None:
    """Films of before it was there are at the model's own rate, and their segments are what they were."""
    model = require_model("demo")
    assert (model.fps, model.native_fps) == (16, 8)
    assert (model.pace(16), model.pace(8)) == (2, 1)
    assert model.segments(5 * 16, 16) == (80,)
    assert model.segments(5 * 8, 8) == (40,)
    assert model.segments(81, 16) == (81,), "41 native frames, and nothing is drawn behind the last"
    assert sum(model.segments(10 * 16, 16)) == 2 * sum(model.segments(10 * 8, 8))
    with pytest.raises(AppError, match="8 or 16 frames per second, not of 12") as refusal:
        model.pace(12)
    assert refusal.value.code == "mode_unsupported"


def test_a_rate_that_its_upscaler_cannot_divide_is_no_catalogue() -> None:
    with pytest.raises(CatalogError, match="multiple of the upscaler's pace"):
        parse_model(MINIMAL + "[upscaler]\nscale = 2\npace = 3\n", "tiny.toml")


@given(st.integers(1, 500))
def test_rendered_frames_is_the_next_possible_count(frames: int) -> None:
    model = load_catalog()["wan2.1-t2v-1.3b"]
    rendered = model.rendered_frames(frames)
    assert rendered % 4 == 1
    assert frames <= rendered < frames + 4


def test_a_frozen_model_cannot_be_changed() -> None:
    model: VideoModel = require_model("demo")
    with pytest.raises(ValueError, match="frozen"):
        model.steps = 1  # type: ignore[misc]
    assert model.native_size(resolve_size("1280x720", None, None)) is not None
