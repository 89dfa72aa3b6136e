"""The demo model's scenes: which exist, which are held out, and where objects are."""

import numpy as np
import pytest

from app.catalog.demo_words import MOTIONS, SHAPES, Scene, Thing, vocabulary
from workers.demo_model.config import DISPLAY_RATIOS, FRAMES_MAX, NATIVE_SIZES, latent_frames, pixel_aspect, ratio_of
from workers.demo_model.paint import paint
from workers.demo_model.scene_detector import detect_scene, score_prompt
from workers.demo_model.scenes import clip_times, draw_scene, is_held_out, paths


@pytest.mark.deep
def test_the_scene_detector_is_right_on_every_painted_clip() -> None:
    """On painted clips the scene detector scores 100 %, in every ratio, for one object and for two."""
    rng = np.random.default_rng(5)
    for index in range(120):
        ratio = list(NATIVE_SIZES)[index % len(NATIVE_SIZES)]
        scene = draw_scene(rng, held_out=None, two=0.3)
        pixels, _ = paint(scene, *NATIVE_SIZES[ratio], FRAMES_MAX, rng)
        frames = pixels.round().astype(np.uint8)
        assert score_prompt(frames, scene)["all"], (ratio, scene.caption(), detect_scene(frames))


def test_the_scene_detector_reports_every_single_mistake() -> None:
    """A clip of one scene fails exactly the aspects in which another scene differs."""
    rng = np.random.default_rng(6)
    pixels, _ = paint(Scene("blue", (Thing("red", "circle", "left"),)), 112, 64, FRAMES_MAX, rng)
    frames = pixels.round().astype(np.uint8)
    others = {
        "background": Scene("green", (Thing("red", "circle", "left"),)),
        "color": Scene("blue", (Thing("yellow", "circle", "left"),)),
        "shape": Scene("blue", (Thing("red", "square", "left"),)),
        "motion": Scene("blue", (Thing("red", "circle", "right"),)),
    }
    for aspect, scene in others.items():
        wrong = {name for name, right in score_prompt(frames, scene).items() if not right}
        assert wrong == {aspect, "all"}


def test_the_scene_detector_accepts_an_empty_clip() -> None:
    """A clip without any object, or of noise, is no error, only wrong."""
    scene = Scene("blue", (Thing("red", "circle", "left"),))
    noise = np.random.default_rng(1).integers(0, 256, (17, 64, 112, 3)).astype(np.uint8)
    assert not score_prompt(np.full((17, 64, 112, 3), 128, np.uint8), scene)["all"]
    assert not score_prompt(noise, scene)["all"]


def test_held_out_combinations_never_reach_training() -> None:
    """Training draws only combinations that are not held out; every word occurs in both halves."""
    rng = np.random.default_rng(2)
    for wanted in (False, True):
        scenes = [draw_scene(rng, held_out=wanted) for _ in range(400)]
        assert all(is_held_out(scene.background, thing) == wanted for scene in scenes for thing in scene.things)
        assert {thing.motion for scene in scenes for thing in scene.things} == set(MOTIONS)
        assert {thing.shape for scene in scenes for thing in scene.things} == set(SHAPES)


def test_captions_use_the_vocabulary_only() -> None:
    """No caption holds a word that the tokenizer does not know."""
    rng = np.random.default_rng(3)
    words = {word for _ in range(500) for word in draw_scene(rng, held_out=None).caption().split()}
    assert words <= set(vocabulary())


@pytest.mark.parametrize("anywhere", [False, True])
def test_things_stay_inside_the_picture(anywhere: bool) -> None:
    """Who reaches the edge rests there, however long the shot."""
    rng = np.random.default_rng(4)
    for ratio, (width, height) in NATIVE_SIZES.items():
        for _ in range(40):
            scene = draw_scene(rng, held_out=None)
            for path in paths(scene, width, height, clip_times(200), rng, anywhere=anywhere):
                assert path.center.min() >= path.radius.min() * 0.7, ratio
                assert (path.center[:, 0] <= width * pixel_aspect(width, height)).all()
                assert (path.center[:, 1] <= height).all()


def test_sizes_are_what_transformer_and_codec_can_make() -> None:
    """Native sizes are multiples of 16, near their ratio, and different."""
    for ratio, (width, height) in NATIVE_SIZES.items():
        assert width % 16 == height % 16 == 0
        assert ratio_of(width, height) == ratio
        assert abs(width / height / DISPLAY_RATIOS[ratio] - 1) < 0.07
    assert latent_frames(41) == 11
    with pytest.raises(ValueError, match="4k\\+1"):
        latent_frames(40)


def test_a_held_clip_ends_on_a_still_picture() -> None:
    """The last frames of a held clip are one picture, that of the frame before them."""
    rng = np.random.default_rng(8)
    pixels, _ = paint(Scene("white", (Thing("red", "square", "right"),)), 112, 64, 17, rng, hold=4)
    assert (pixels[-5:] == pixels[-1]).all()
    assert (pixels[-6] != pixels[-5]).any()
