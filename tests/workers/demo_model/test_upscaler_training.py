"""The upscaler's training pairs are aligned to a fraction of a pixel, and training learns outlines from them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workers.demo_model.config import FRAMES_MAX, NATIVE_SIZES
from workers.demo_model.muon import optimisers
from workers.demo_model.paint import EDGE, paint
from workers.demo_model.scenes import draw_scene
from workers.demo_model.upscaler_clips import PACE, SHARD, ClipPool, Painting, draw_painting
from workers.demo_model.upscaler_training import outline_loss
from workers.engine.shape_drawing import coverage_of
from workers.engine.upscaler import Upscaler

SEED = 5

# Several threads on a few busy cores wait for one another longer than these models compute.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ClipPool:
    """One shard of clips as they are painted, as if the codec lost nothing."""
    folder = tmp_path_factory.mktemp("clips")
    words = {"kind": "decoded", "ratio": "16:9", "seed": json.dumps([SEED, 0])}
    moments = np.arange(0, PACE * FRAMES_MAX - 1, PACE)
    paintings = [draw_painting([SEED, 0, row], "16:9", generated=False)[1] for row in range(SHARD)]
    clips = np.stack([each.paint(moments) for each in paintings]).round().astype(np.uint8)
    save_file({"clips": torch.from_numpy(clips)}, folder / "0000.safetensors", words)
    pool = ClipPool(folder, SEED)
    pool.grow(None)
    return pool


@pytest.mark.parametrize("ratio", ["16:9", "3:4"])
def test_a_scene_is_painted_again_as_it_was(ratio: str) -> None:
    """The native frames of a painting are those that the codec and the transformer were trained on."""
    width, height = NATIVE_SIZES[ratio]
    for seed in range(6):
        scene = draw_scene(np.random.default_rng(seed), held_out=None, two=0.5)
        wanted, _ = paint(scene, width, height, 9, np.random.default_rng([seed, 2]), start=1.0, anywhere=True)
        painting = Painting.of(scene, width, height, 9, [seed, 2], 1.0, True)
        np.testing.assert_allclose(painting.paint(np.arange(0, 17, 2)), wanted, atol=0.01)


def test_outlines_lie_where_the_edges_are() -> None:
    """Coverage is a ramp over the signed distance, in any window and between the frames, too."""
    _, painting = draw_painting([3, 1, 2], "16:9", generated=False)
    moments = np.array([10, 11])
    distance = painting.outlines(moments, 1, 16, 8, 48)
    cover = np.zeros_like(distance)
    pixels = painting.paint(moments)[:, 8:56, 16:64]
    for _, color, _, _ in painting.things:
        way = color - painting.back
        share = ((pixels - painting.back) @ way) / (way @ way)
        exact = np.abs(pixels - painting.back - share[..., None] * way).max(-1) < 1
        cover = np.where(exact, np.maximum(cover, share), cover)
    np.testing.assert_allclose(cover, np.clip(0.5 - distance / EDGE, 0, 1), atol=0.02)


def test_coverage_does_not_know_colours() -> None:
    """A shape's coverage is the share of its colour in each pixel, whatever the two colours are."""
    _, painting = draw_painting([7, 0, 0], "1:1", generated=True)
    frames = torch.from_numpy(painting.paint(np.arange(0, 8, 2))).permute(0, 3, 1, 2)[None] / 127.5 - 1
    distance = torch.from_numpy(painting.outlines(np.arange(0, 8, 2), 1, 0, 0, 80))
    wanted = (0.5 - distance / EDGE).clamp(0, 1)
    assert (coverage_of(frames)[0] - wanted).abs().max() < 0.05


def test_training_learns_outlines(pool: ClipPool) -> None:
    """A few steps bring the distance error well below that of knowing nothing."""
    torch.manual_seed(1)
    upscaler = Upscaler()
    optims = optimisers(upscaler.parameters(), 6e-3, [upscaler.conv_in.weight, upscaler.conv_out.weight])
    losses = []
    for step in range(20):
        coverage, missing, wanted = pool.batch(6, 32, np.random.default_rng(step))
        assert coverage.shape == (6, 4, 32, 32)
        assert wanted.shape == (6, 3, 64, 64)
        loss = outline_loss(upscaler.outlines(coverage, missing), wanted)
        for optim in optims:
            optim.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optim in optims:
            optim.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
