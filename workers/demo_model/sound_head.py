"""The sound head: a small network that looks at a clip's clean latents and says how its voices move.

It is a cascade on top of the picture model, which stays as it is: convolutions find the objects in each latent frame,
a short transformer follows them through time, and every latent frame answers for its four native frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.catalog.demo_words import SHAPES
from workers.demo_model.facts import FRAMES_MAX, SPATIAL, TEMPORAL, latent_frames, pixel_aspect
from workers.demo_model.sound_law import (
    BASE_HERTZ,
    CONTROL_RATE,
    PER_FRAME,
    REGISTERS,
    VOICES,
    Controls,
    control_count,
    spaced,
)

CHANNELS = 16
KNOBS = ("level", "pitch", "pan", "click")
"""What each voice has at each control point; pitch is in octaves above its register's base."""

CLICK_WIDTH = 1.2
"""A contact is marked as a bell of this width, in control points: its place is told more finely than by one point."""

CLICK_HEARD, PRESENT = 0.4, 0.5
"""A bell of at least this height is a contact; a voice of at least this probability is there."""


@dataclass(frozen=True)
class Answer:
    """What the head says of a batch of clips: knobs [B, 2, 4, n] (clicks as logits), shapes [B, 2, 3] and presence
    [B, 2] as logits."""

    knobs: Tensor
    shapes: Tensor
    presence: Tensor


class _Residual(nn.Module):
    """A convolution added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(functional.silu(self.norm(x)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Attention over latent frames, then a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.down(functional.gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class SoundHead(nn.Module):
    """Latents [B, 16, f, h, w] in, an Answer for 1 + 4 (f - 1) native frames out."""

    def __init__(self, near: int = 32, far: int = 72, width: int = 128, blocks: int = 2, looks: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv3d(CHANNELS + 4, near, 3, padding=1)
        self.near = _Residual(near)
        self.down = nn.Conv2d(near, far, 3, stride=2, padding=1)
        self.far = nn.Sequential(_Residual(far), _Residual(far))
        self.norm = nn.GroupNorm(4, far)
        self.look, self.value = nn.Conv2d(far, looks, 1), nn.Conv2d(far, 16 * looks, 1)
        self.join = nn.Linear(looks * (16 + 5) + 2 * far, width)
        self.time = nn.Parameter(torch.zeros(latent_frames(FRAMES_MAX), width))
        self.blocks = nn.Sequential(*(_Block(width, 4) for _ in range(blocks)))
        self.final = nn.LayerNorm(width)
        self.knobs = nn.Linear(width, TEMPORAL * PER_FRAME * VOICES * len(KNOBS))
        self.words = nn.Linear(width, VOICES * (len(SHAPES) + 1))

    def forward(self, latents: Tensor) -> Answer:
        batch, _, count, height, width = latents.shape
        where = coordinates(height, width).to(latents)  # [4, h, w]
        maps = torch.cat([latents, where[None, :, None].expand(batch, -1, count, -1, -1)], dim=1)
        near = self.stem(maps).transpose(1, 2).flatten(0, 1)  # [B f, 32, h, w]
        far = functional.silu(self.norm(self.far(self.down(self.near(near)))))  # [B f, 72, h/2, w/2]
        tokens = self.join(self._pool(far, where)).unflatten(0, (batch, count))
        tokens = self.final(self.blocks(tokens + self.time[:count]))
        knobs = self.knobs(tokens).unflatten(-1, (TEMPORAL * PER_FRAME, VOICES, len(KNOBS)))
        knobs = knobs.flatten(1, 2).permute(0, 2, 3, 1)[..., (TEMPORAL - 1) * PER_FRAME :]  # the first covers one frame
        words = self.words(tokens).mean(1).unflatten(-1, (VOICES, len(SHAPES) + 1))
        return Answer(knobs, words[..., :-1], words[..., -1])

    def _pool(self, maps: Tensor, where: Tensor) -> Tensor:
        """What each look sees and where it looks, and mean and maximum of everything, [B f, looks · 21 + 144]."""
        weights = self.look(maps).flatten(2).softmax(-1)  # [B f, looks, cells]
        values = self.value(maps).flatten(2).unflatten(1, (weights.shape[1], 16))
        seen = (values * weights[:, :, None]).sum(-1).flatten(1)
        x, y = functional.avg_pool2d(where[:2], 2, ceil_mode=True).flatten(1)
        places = weights @ torch.stack([x, y, x * x, y * y, x * y], dim=1)
        return torch.cat([seen, places.flatten(1), maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


def coordinates(height: int, width: int) -> Tensor:
    """Places of latent cells, [4, h, w]: x and y in -1..1, the picture's shape, and ones (so that edges are felt)."""
    wide = width * pixel_aspect(width * SPATIAL, height * SPATIAL) / height
    x = ((torch.arange(width) + 0.5) / width * 2 - 1).expand(height, width)
    y = ((torch.arange(height) + 0.5) / height * 2 - 1)[:, None].expand(height, width)
    return torch.stack([x, y, torch.full_like(x, float(np.log(wide))), torch.ones_like(x)])


def targets_of(controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    """Controls as the head shall say them: knobs float32 [2, 4, n] (clicks 0..1) and shape numbers [2], -1 for none."""
    times = np.arange(controls.level.shape[1])
    bells = np.zeros_like(controls.level)
    for voice, contacts in enumerate(controls.contacts):
        for second in contacts:
            bell = np.exp(-0.5 * np.square((times - second * CONTROL_RATE) / CLICK_WIDTH))
            bells[voice] = np.maximum(bells[voice], bell)
    octaves = np.log2(controls.pitch / (np.array(REGISTERS)[:, None] * BASE_HERTZ))
    knobs = np.stack([controls.level, octaves, controls.pan, bells], axis=1).astype(np.float32)
    return knobs, np.array([SHAPES.index(shape) if shape else -1 for shape in controls.shapes])


def controls_from(answer: Answer, frames: int) -> list[Controls]:
    """What the head said, as controls of each clip's first `frames` native frames (the last point holds after them)."""
    knobs = answer.knobs.detach().float().numpy().astype(np.float64)[..., : control_count(frames)]
    present = answer.presence.detach().sigmoid().numpy() >= PRESENT
    shapes = answer.shapes.detach().argmax(-1).numpy()
    result = []
    for clip in range(len(knobs)):
        level, octaves, pan, clicks = knobs[clip].transpose(1, 0, 2)
        level = np.clip(level, 0.02, 0.6) * present[clip][:, None]
        pitch = np.array(REGISTERS)[:, None] * BASE_HERTZ * np.exp2(np.clip(octaves, -1.25, 1.25))
        heard = [
            contacts_in(1 / (1 + np.exp(-clicks[voice]))) if present[clip][voice] else () for voice in range(VOICES)
        ]
        words = [SHAPES[shapes[clip][voice]] if present[clip][voice] else "" for voice in range(VOICES)]
        result.append(Controls(level, pitch, np.clip(pan, 0.0, 1.0), (words[0], words[1]), (heard[0], heard[1])))
    return result


def contacts_in(bells: np.ndarray) -> tuple[float, ...]:
    """Seconds of the tops of bells [n] that are high enough, between control points by their neighbours' heights."""
    around = np.pad(bells, 1)
    tops = np.nonzero((bells >= CLICK_HEARD) & (bells >= around[:-2]) & (bells > around[2:]))[0]
    logs = np.log(np.maximum(around, 1e-4))
    seconds = []
    for top in tops:
        before, here, after = logs[top : top + 3]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < -1e-6 else 0.0
        seconds.append((top + float(np.clip(shift, -0.5, 0.5))) / CONTROL_RATE)
    return spaced(np.array(seconds))
