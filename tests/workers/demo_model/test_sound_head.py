"""The sound head: what it is taught and what it says have the same form, for every size and length of clip."""

import numpy as np
import pytest
import torch

from app.catalog.demo_words import Scene, Thing
from workers.demo_model.config import FRAMES_MAX, NATIVE_SIZES, SPATIAL, latent_frames
from workers.demo_model.sound_data import Shard
from workers.demo_model.sound_head import Answer, SoundHead, contacts_in, controls_from, hear_latents, targets_of
from workers.demo_model.sound_law import control_count, controls_of, world_tracks
from workers.demo_model.sound_training import draw_batch, losses
from workers.engine.sound import BadSound

SCENE = Scene("white", (Thing("red", "triangle", "bounce"), Thing("blue", "square", "orbit")))
CONTROLS = controls_of(world_tracks(SCENE, 112, 64, FRAMES_MAX, np.random.default_rng(1)), FRAMES_MAX)


def test_what_the_head_is_taught_comes_back_as_controls():
    knobs, shapes = targets_of(CONTROLS)
    answer = Answer(
        torch.from_numpy(knobs)[None].clone(),
        torch.nn.functional.one_hot(torch.from_numpy(shapes), 3)[None].float(),
        torch.full((1, 2), 9.0),
    )
    answer.knobs[:, :, 3] = torch.logit(answer.knobs[:, :, 3].clamp(1e-4, 1 - 1e-4))
    (back,) = controls_from(answer, FRAMES_MAX)
    assert back.shapes == CONTROLS.shapes == ("triangle", "square")
    assert np.allclose(back.pitch, CONTROLS.pitch, rtol=1e-4)
    assert np.allclose(back.pan, CONTROLS.pan, atol=1e-5)
    for voice in range(2):
        assert np.allclose(back.contacts[voice], CONTROLS.contacts[voice], atol=0.004)
        assert contacts_in(knobs[voice, 3]) == pytest.approx(CONTROLS.contacts[voice], abs=0.004)


@pytest.mark.parametrize("size", list(NATIVE_SIZES.values()))
@pytest.mark.parametrize("frames", [9, 41])
def test_it_answers_for_every_frame_of_every_size(size: tuple[int, int], frames: int):
    latents = torch.randn(2, 16, latent_frames(frames), size[1] // SPATIAL, size[0] // SPATIAL)
    controls = hear_latents(SoundHead().eval(), latents)
    assert len(controls) == 2
    assert controls[0].level.shape == (2, control_count(frames))


def test_a_step_makes_it_better():
    torch.manual_seed(1)
    head = SoundHead()
    knobs, shapes = (torch.from_numpy(part)[None].repeat(4, *([1] * part.ndim)) for part in targets_of(CONTROLS))
    shard = Shard(torch.randn(4, 16, 11, 8, 14), knobs.half(), shapes)
    optim = torch.optim.SGD(head.parameters(), lr=1e-2)
    totals = []
    for _ in range(6):
        latents, wanted, words = draw_batch([shard], np.random.default_rng(1), 1.0)
        total = torch.stack(list(losses(head(latents), wanted, words).values())).sum()
        optim.zero_grad()
        total.backward()
        optim.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]


def test_it_refuses_what_it_does_not_know():
    for shape in ((1, 16, 12, 8, 14), (1, 8, 11, 8, 14), (16, 11, 8, 14)):
        with pytest.raises(ValueError, match="latents are"):
            hear_latents(SoundHead(), torch.zeros(shape))
    with pytest.raises(BadSound, match="finite"):
        hear_latents(SoundHead().eval(), torch.full((1, 16, 11, 8, 14), float("nan")))
