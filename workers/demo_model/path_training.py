"""Train the upscaler's path network on the ways of objects: a minute of one processor, no picture is needed."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.demo_model.config import FPS, NATIVE_SIZES
from workers.demo_model.scenes import clip_times, draw_scene, paths
from workers.engine.shape_tracking import PathNet

SCENES, FRAMES = 1500, 41
STEPS, BATCH = 3000, 1024
NOISE_MAX = 0.4
"""Deviation of the measured places from the true ones, in native pixels, at most."""


def draw_ways(rng: np.random.Generator, scenes: int, pace: int) -> Tensor:
    """Coordinates of objects at `pace` times the native rate, [N, P], those that move; centres and radii alike."""
    sizes = list(NATIVE_SIZES.values())
    ways = []
    for _ in range(scenes):
        width, height = sizes[int(rng.integers(len(sizes)))]
        times = clip_times(pace * (FRAMES - 1) + 1, float(rng.uniform(0, 2)), FPS * pace)
        for path in paths(draw_scene(rng, held_out=None), width, height, times, rng, anywhere=bool(rng.random() < 0.4)):
            rows = [*path.center.T, path.radius]
            ways += [row for row in rows if np.ptp(row) > 0.5 or rng.random() < 0.15]
    return torch.from_numpy(np.stack(ways).astype(np.float32))


def train_paths(net: PathNet, seed: int, *, scenes: int = SCENES, steps: int = STEPS) -> float:
    """Train on noisy windows of four frames; returns the mean error of the last steps, in native pixels."""
    rng, pace = np.random.default_rng([seed, 3]), net.pace
    ways = draw_ways(rng, scenes, pace)
    generator = torch.Generator().manual_seed(seed)
    optim = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, 5e-3, total_steps=steps)
    net.requires_grad_(True)
    errors = []
    for _ in range(steps):
        rows = torch.randint(len(ways), (BATCH,), generator=generator)
        begin = torch.randint(FRAMES - 4, (BATCH,), generator=generator) * pace
        way = ways[rows]
        seen = way.gather(1, begin[:, None] + torch.arange(4) * pace)
        wanted = way.gather(1, begin[:, None] + pace + torch.arange(pace + 1))
        seen = seen + NOISE_MAX * torch.rand(BATCH, 1, generator=generator) * torch.randn(BATCH, 4, generator=generator)
        places, missing = _cut(seen, generator)
        loss = functional.l1_loss(net(places, missing), wanted)
        optim.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optim.step()
        schedule.step()
        errors.append(float(loss.detach()))
    return float(np.mean(errors[-len(errors) // 10 :]))


def _cut(seen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Windows as they are at a clip's ends: some begin by repeating a frame, some end so; what is missing, [N, 2]."""
    draw = torch.rand(len(seen), generator=generator)
    last, both, first = draw < 0.06, (draw >= 0.06) & (draw < 0.12), (draw >= 0.12) & (draw < 0.17)
    places = seen.clone()
    places[last, 3] = seen[last, 2]
    places[both, 2:] = seen[both, 1:2]
    places[first, 0] = seen[first, 1]
    return places, torch.stack([both, last | both], 1).float()
