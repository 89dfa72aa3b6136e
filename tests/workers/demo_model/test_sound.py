"""The demo model's sound: the law, the synthesiser, the listener, and the trained head that plays them."""

import json
from fractions import Fraction

import numpy as np
import pytest

from app.catalog.demo_words import Scene, Thing
from workers.demo_model.components import load
from workers.demo_model.config import CONTINUATION_FRAMES, FPS, FRAMES_MAX, NATIVE_SIZES
from workers.demo_model.evaluate import draw_prompts
from workers.demo_model.object_tracks import seen_tracks
from workers.demo_model.sample import generate
from workers.demo_model.scenes import clip_times, draw_scene, paths
from workers.demo_model.sound_evaluation import paint_with_tracks
from workers.demo_model.sound_law import Controls, control_times, controls_of, world_tracks
from workers.demo_model.sound_listener import listen
from workers.demo_model.sound_model import SoundModel, native_pictures
from workers.demo_model.sound_scores import Scores
from workers.demo_model.sound_synthesis import SoundCarry, synthesise
from workers.engine.sound import BadSound, Sound, sample_count

WIDE = NATIVE_SIZES["16:9"]
BOTH = Scene("white", (Thing("red", "triangle", "bounce"), Thing("blue", "square", "orbit")))


def world_controls(scene: Scene, seed: int = 1) -> Controls:
    return controls_of(world_tracks(scene, *WIDE, FRAMES_MAX, np.random.default_rng(seed)), FRAMES_MAX)


def painted(scene: Scene, seed: int = 1, *, start: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return paint_with_tracks(scene, *WIDE, FRAMES_MAX, rng, start=start, anywhere=False)[0]


@pytest.mark.deep
def test_the_listener_is_right_about_every_sound_of_the_world():
    scores, rng = Scores(), np.random.default_rng(1)
    for index in range(24):
        scene = draw_scene(rng, held_out=None, two=0.4)
        start = float(rng.uniform(0.0, 4.5)) if index % 3 == 0 else 0.0
        tracks = world_tracks(scene, *WIDE, FRAMES_MAX, rng, start=start, anywhere=start > 0)
        samples, _ = synthesise(controls_of(tracks, FRAMES_MAX), 240_000, seed=index)
        scores.add(listen(samples), tracks, 5.0)
    assert scores.f1() == 1.0
    assert scores.hits > 8
    for name, tally in scores.tallies.items():
        assert tally.right == tally.asked > 0, name


def test_the_listener_hears_single_objects_in_every_ratio():
    scores, rng = Scores(), np.random.default_rng(2)
    for index in range(10):
        width, height = list(NATIVE_SIZES.values())[index % len(NATIVE_SIZES)]
        tracks = world_tracks(draw_scene(rng, two=0.0), width, height, FRAMES_MAX, rng)
        scores.add(listen(synthesise(controls_of(tracks, FRAMES_MAX), 240_000, seed=index)[0]), tracks, 5.0)
    assert scores.f1() == 1.0
    assert all(tally.right == tally.asked for tally in scores.tallies.values())


def test_the_scores_notice_every_kind_of_mistake():
    tracks = world_tracks(Scene("white", (Thing("red", "circle", "grow"),)), *WIDE, 41, np.random.default_rng(3))
    others = {
        "slope": Scene("white", (Thing("red", "circle", "shrink"),)),
        "timbre": Scene("white", (Thing("red", "square", "grow"),)),
        "voices": Scene("white", (Thing("red", "circle", "grow"), Thing("blue", "circle", "still"))),
    }
    for wrong, scene in others.items():
        scores = Scores()
        scores.add(listen(synthesise(world_controls(scene, 3), 240_000, seed=1)[0]), tracks, 5.0)
        assert scores.tallies[wrong].share() == 0.0
    scores = Scores()
    bouncing = Scene("white", (Thing("red", "circle", "bounce"),))
    scores.add(listen(synthesise(world_controls(bouncing), 240_000, seed=1)[0]), tracks, 5.0)
    assert scores.f1() == 0.0


def test_contacts_are_when_the_world_says():
    rng = np.random.default_rng(4)
    (bouncing,) = world_tracks(Scene("white", (Thing("red", "circle", "bounce"),)), *WIDE, FRAMES_MAX, rng)
    assert np.allclose(bouncing.contacts, (1.6, 3.2, 4.8), atol=0.002)
    (falling,) = world_tracks(Scene("white", (Thing("red", "circle", "down"),)), *WIDE, FRAMES_MAX, rng)
    (contact,) = falling.contacts
    resting = control_times(FRAMES_MAX) >= contact
    assert np.ptp(falling.y[resting]) < 1e-9
    assert falling.y[~resting][-2] < falling.y[-1]
    (orbiting,) = world_tracks(Scene("white", (Thing("red", "circle", "orbit"),)), *WIDE, FRAMES_MAX, rng)
    assert orbiting.contacts == ()


def test_exact_tracks_belong_to_the_painted_clip():
    rng = np.random.default_rng(6)
    for _ in range(12):
        scene = draw_scene(rng, held_out=None, two=0.5)
        pixels, exact = paint_with_tracks(scene, *WIDE, FRAMES_MAX, rng, start=1.0, anywhere=True)
        seen = seen_tracks(pixels)
        assert [track.shape for track in seen] == [track.shape for track in exact]
        for by_eye, by_world in zip(seen, exact, strict=True):
            assert np.abs(by_eye.x - by_world.x).max() < 0.02
            assert abs(np.median(by_eye.radius / by_world.radius) - 1) < 0.03
    assert len(paths(scene, *WIDE, clip_times(3), rng, anywhere=False)) == len(scene.things)


@pytest.mark.parametrize(
    ("frames", "fps", "samples"),
    [(40, 8, 240_000), (120, 24, 240_000), (33, 8, 198_000), (81, 16, 243_000), (7, Fraction(30000, 1001), 11_211)],
)
def test_a_sound_has_exactly_the_samples_of_its_frames(frames: int, fps: int | Fraction, samples: int):
    assert sample_count(frames, fps) == samples
    pictures = painted(BOTH)[:17]
    sound, carry = SoundModel().generate(pictures, seed=1, frames=frames, fps=fps)
    assert sound.samples.shape == (samples, 2)
    assert sound.rate == 48_000
    assert carry.samples == samples


def test_a_shot_of_two_segments_has_the_sound_of_one():
    controls = world_controls(BOTH)
    whole, _ = synthesise(controls, 240_000, seed=1)
    for cut in (76_900, 100_000, 153_700):  # the first and the last one lie in the sound of a click
        first, carry = synthesise(controls, cut, seed=1)
        stored = SoundCarry.from_facts(json.loads(json.dumps(carry.to_facts())))
        second, _ = synthesise(controls, 240_000 - cut, seed=1, start=cut / 48_000, carry=stored)
        assert np.abs(np.concatenate([first, second]) - whole).max() < 1e-5


def test_a_joint_between_different_controls_is_no_step():
    before, after = world_controls(BOTH, 1), world_controls(Scene("red", (Thing("blue", "circle", "grow"),)), 2)
    first, carry = synthesise(before, 48_000, seed=1)
    second, _ = synthesise(after, 48_000, seed=2, start=1.125, carry=carry)
    steps = np.abs(np.diff(np.concatenate([first, second]), axis=0)).max(1)
    assert steps[47_999] <= steps[43_000:47_990].max()
    assert steps[47_990:50_880].max() <= 1.1 * steps[24_000:47_000].max()


def test_a_contact_at_the_joint_clicks_once():
    scene = Scene("white", (Thing("red", "circle", "bounce"),))
    controls = world_controls(scene)
    for shift in (-0.02, 0.0, 0.02):  # the second segment sees the contact a little earlier or later than the first
        first, carry = synthesise(controls, round(1.6 * 48_000), seed=1)
        (contacts, none) = ((controls.contacts[0][0] + shift, *controls.contacts[0][1:]), ())
        moved = Controls(controls.level, controls.pitch, controls.pan, controls.shapes, (contacts, none))
        second, _ = synthesise(moved, 96_000, seed=2, start=1.6, carry=carry)
        clicks = listen(np.concatenate([first, second])).clicks
        assert len(clicks) == 2
        assert abs(clicks[0] - 1.6) < 0.03


def test_the_same_seed_makes_the_same_sound():
    pictures = painted(BOTH)
    first, again, other = (SoundModel().generate(pictures, seed=seed, frames=40, fps=FPS)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)


def test_a_continued_clip_sounds_on():
    scene = Scene("white", (Thing("red", "triangle", "right", speed="slowly"),))
    pictures = painted(scene, 5)
    lead = CONTINUATION_FRAMES / FPS
    first, carry = SoundModel().generate(pictures[:25], seed=1, frames=24, fps=FPS)
    second, _ = SoundModel().generate(
        pictures[24 - CONTINUATION_FRAMES :], seed=2, frames=16, fps=FPS, start=lead, carry=carry
    )
    whole, _ = SoundModel().generate(pictures, seed=1, frames=40, fps=FPS)
    film = np.concatenate([first.samples, second.samples])
    joint = len(first.samples)
    steps = np.abs(np.diff(film, axis=0)).max(1)
    assert steps[joint - 1] <= steps[joint - 5000 : joint - 10].max()
    assert len(film) == len(whole.samples)
    joined, whole_film = listen(film), listen(whole.samples)
    assert [voice.shape for voice in joined.voices] == ["triangle"]
    assert np.abs(np.log2(joined.voices[0].pitch / whole_film.voices[0].pitch)).max() < 1 / 24
    assert np.abs(joined.voices[0].pan - whole_film.voices[0].pan).max() < 0.02


def test_larger_and_faster_pictures_sound_like_native_ones():
    pictures = painted(BOTH)
    large = pictures.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    assert np.array_equal(native_pictures(large, 16)[:-1], pictures[:-1])
    scores = Scores()
    sound, _ = SoundModel().generate(large, seed=1, frames=80, fps=16, pictures_fps=16)
    scores.add(listen(sound.samples), seen_tracks(pictures), 5.0)
    assert scores.f1() == 1.0
    assert all(tally.right == tally.asked for tally in scores.tallies.values())


@pytest.mark.deep
def test_ten_prompts_sound_like_what_they_show():
    pipeline = load()
    scores, intended = Scores(), Scores()
    motions = {"bounce", "grow", "shrink", "left", "down"}
    scenes = [scene for scene, _ in draw_prompts(60, 2) if {thing.motion for thing in scene.things} & motions][:10]
    clips = generate(pipeline, [scene.caption() for scene in scenes], *WIDE, FRAMES_MAX, list(range(10)))
    for index, frames in enumerate(clips):
        sound, _ = SoundModel().generate(frames, seed=index, frames=40, fps=FPS)
        scores.add(listen(sound.samples), seen_tracks(frames), 5.0)
        words = [thing.shape for thing in scenes[index].things]
        intended.tallies["timbre"].count([voice.shape for voice in listen(sound.samples).voices] == words)
    assert scores.f1() >= 0.95
    assert intended.tallies["timbre"].share() >= 0.7
    for name in ("timbre", "pan", "slope"):
        assert scores.tallies[name].share() >= 0.9, name


def test_an_empty_picture_is_nearly_silent_but_not_digitally():
    for pictures in (np.full((41, 64, 112, 3), 128, np.uint8), np.zeros((1, 64, 112, 3), np.uint8)):
        sound, _ = SoundModel().generate(pictures, seed=1, frames=40, fps=FPS)
        assert 0 < np.abs(sound.samples).max() < 0.01
        assert listen(sound.samples).clicks == ()


def test_any_picture_makes_a_sound_that_can_be_stored():
    rng = np.random.default_rng(1)
    for size in ((41, 64, 112, 3), (9, 120, 208, 3), (5, 80, 80, 3), (2, 33, 47, 3)):
        sound, _ = SoundModel().generate(rng.integers(0, 256, size).astype(np.uint8), seed=1, frames=8, fps=FPS)
        assert sound.samples.shape == (48_000, 2)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((5, 2)), "float64"),
        (np.zeros((5, 3), np.float32), "\\[5, 3\\]"),
        (np.full((5, 2), np.nan, np.float32), "finite"),
        (np.full((5, 2), 1.5, np.float32), "1.500"),
    ],
)
def test_a_sound_is_finite_and_in_range(samples: np.ndarray, words: str):
    with pytest.raises(BadSound, match=words):
        Sound(samples)
