"""The shipped upscaler: four times the sides, twice the frames, clean edges, and nothing that flickers."""

import numpy as np
import pytest
import torch

from app.catalog.demo_words import Scene, Thing
from app.catalog.models import require_model
from workers.demo_model.components import WEIGHTS
from workers.demo_model.config import FPS, NATIVE_SIZES, pixel_aspect
from workers.demo_model.evaluate import as_shown, psnr
from workers.demo_model.scene_detector import score_prompt
from workers.demo_model.upscaler_clips import PACE, SCALE, Painting
from workers.engine.upscaler import FILE, Upscaler, draw_frames, load_upscaler

torch.set_num_threads(1)

FRAMES = 17
SCENES = {
    "16:9": Scene("blue", (Thing("red", "circle", "right"),)),
    "3:4": Scene("yellow", (Thing("black", "triangle", "orbit"),)),
    "1:1": Scene("white", (Thing("green", "square", "bounce"),)),
    "9:16": Scene("black", (Thing("red", "triangle", "up"), Thing("white", "square", "shrink"))),
    "4:3": Scene("purple", (Thing("white", "square", "still"),)),
}


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return load_upscaler(WEIGHTS / FILE)


def painted(ratio: str) -> tuple[Painting, np.ndarray]:
    """A scene, and its native frames with a codec's noise, uint8 [F, H, W, 3]."""
    painting = Painting.of(SCENES[ratio], *NATIVE_SIZES[ratio], FRAMES, [4, 2], 0.0, False)
    pixels = painting.paint(np.arange(0, PACE * FRAMES - 1, PACE))
    noise = np.random.default_rng(6).normal(0, 4, pixels.shape)
    return painting, np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


def drawn(upscaler: Upscaler, clip: np.ndarray) -> np.ndarray:
    """The film of a clip, uint8 [2 F, 4 H, 4 W, 3]."""
    aspect = pixel_aspect(clip.shape[2], clip.shape[1])
    pieces = iter(torch.from_numpy(clip).float().div(255).split(4))
    chunks = draw_frames(upscaler, pieces, first=0, frames=PACE * len(clip), pace=PACE, aspect=aspect)
    film: np.ndarray = torch.cat(list(chunks)).numpy()
    return film


def test_the_catalogue_and_the_weights_say_the_same() -> None:
    model = require_model("demo")
    assert model.upscaler is not None
    assert (model.upscaler.scale, model.upscaler.pace, model.native_fps) == (SCALE, PACE, FPS)
    assert model.pixel_aspect(112, 64) == pytest.approx(pixel_aspect(112, 64))
    assert model.pixel_aspect(64, 80) == pytest.approx(pixel_aspect(64, 80))


@pytest.mark.parametrize("ratio", list(SCENES))
def test_a_film_shows_what_was_painted_large_and_between_the_frames(upscaler: Upscaler, ratio: str) -> None:
    """Every frame, drawn between two or not, is near the same scene painted at its size and time."""
    painting, clip = painted(ratio)
    film = drawn(upscaler, clip)
    assert film.shape == (PACE * FRAMES, SCALE * clip.shape[1], SCALE * clip.shape[2], 3)
    moments = np.arange(PACE * FRAMES - 1)
    wanted = painting.paint(moments, SCALE)
    closeness = np.array([psnr(film[moment], wanted[moment]) for moment in moments])
    assert np.median(closeness) > 28
    assert closeness.min() > 20


def test_nothing_flickers(upscaler: Upscaler) -> None:
    """Of a shape that rests, frame by frame, no flat part changes by more than two levels."""
    _, clip = painted("4:3")
    film = drawn(upscaler, clip).astype(np.int16)
    changes = np.abs(np.diff(film, axis=0))
    assert np.percentile(changes, 99) <= 2
    assert (changes.max(-1) > 24).mean() < 0.004, "and its edge keeps its place to a fraction of a drawn pixel"


def test_the_scene_detector_sees_the_same_scene(upscaler: Upscaler) -> None:
    for ratio in ("16:9", "9:16"):
        _, clip = painted(ratio)
        [film] = as_shown(upscaler, clip[None])
        assert score_prompt(film, SCENES[ratio]) == score_prompt(clip, SCENES[ratio])
