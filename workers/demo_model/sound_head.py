"""The sound head: a small network that looks at a clip's clean latents and says how its voices move.

It is a cascade on top of the picture model, which stays as it is: convolutions find the objects in each latent frame,
a short transformer follows them through time, and every latent frame answers for its four native frames.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from app.catalog.demo_words import SHAPES
from workers.demo_model.config import FRAMES_MAX, TEMPORAL, latent_frames
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
from workers.engine.sound import BadSound

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
    """Latents [B, 16, f, h, w] in, an Answer for 1 + 4 (f - 1) native frames out.

    It sees how each cell differs from the picture's border, which is background, so that objects stand out from the
    first step of training on; and for the whole picture and its halves it is told where the differences lie.
    """

    def __init__(self, far: int = 80, width: int = 128, blocks: int = 2, looks: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * 4 * (CHANNELS + 1) + 4, far, 1)
        self.far = nn.Sequential(_Residual(far), _Residual(far))
        self.norm = nn.GroupNorm(4, far)
        self.look, self.value = nn.Conv2d(far, looks, 1), nn.Conv2d(far, 16 * looks, 1)
        self.join = nn.Linear(looks * (16 + len(MOMENTS)) + 2 * far + len(HALVES) * len(MOMENTS) + 1, width)
        self.time = nn.Parameter(torch.zeros(latent_frames(FRAMES_MAX), width))
        self.blocks = nn.Sequential(*(_Block(width, 4) for _ in range(blocks)))
        self.final = nn.LayerNorm(width)
        self.knobs = nn.Linear(width, TEMPORAL * PER_FRAME * VOICES * len(KNOBS))
        self.words = nn.Linear(width, VOICES * (len(SHAPES) + 1))

    def forward(self, latents: Tensor) -> Answer:
        batch, _, count, height, width = latents.shape
        differing = latents - background(latents)
        strength = differing.square().mean(1, keepdim=True)  # [B, 1, f, h, w]
        cells = torch.cat([differing, strength.sqrt()], dim=1).transpose(1, 2)  # [B, f, 17, h, w]
        cells = functional.pixel_unshuffle(cells, 2)  # [B, f, 68, h/2, w/2]
        cells = torch.cat([cells, torch.cat([cells[:, :1], cells[:, :-1]], dim=1)], dim=2).flatten(0, 1)
        where = coordinates(height // 2, width // 2).to(latents)
        maps = torch.cat([cells, where.expand(len(cells), -1, -1, -1)], dim=1)
        far = functional.silu(self.norm(self.far(self.stem(maps))))  # [B f, 80, h/2, w/2]
        seen = torch.cat([self._pool(far, where), masses(strength.transpose(1, 2).flatten(0, 2))], dim=1)
        tokens = self.join(torch.cat([seen, where[2, :1, :1].expand(len(seen), -1)], dim=1)).unflatten(
            0, (batch, count)
        )
        tokens = self.final(self.blocks(tokens + self.time[:count]))
        knobs = self.knobs(tokens).unflatten(-1, (TEMPORAL * PER_FRAME, VOICES, len(KNOBS)))
        knobs = knobs.flatten(1, 2).permute(0, 2, 3, 1)[..., (TEMPORAL - 1) * PER_FRAME :]  # the first covers one frame
        words = self.words(tokens).mean(1).unflatten(-1, (VOICES, len(SHAPES) + 1))
        return Answer(knobs, words[..., :-1], words[..., -1])

    def _pool(self, maps: Tensor, where: Tensor) -> Tensor:
        """What each look sees and where it looks, and mean and maximum of everything, [B f, …]."""
        weights = self.look(maps).flatten(2).softmax(-1)  # [B f, looks, cells]
        values = self.value(maps).flatten(2).unflatten(1, (weights.shape[1], 16))
        seen = (values * weights[:, :, None]).sum(-1).flatten(1)
        places = weights @ moments(where)
        return torch.cat([seen, places.flatten(1), maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


MOMENTS = ("1", "x", "y", "xx", "yy", "xy")
HALVES = ("all", "left", "right", "upper", "lower")


def background(latents: Tensor) -> Tensor:
    """What the picture's border shows most of the time, [B, 16, 1, 1, 1]."""
    top, bottom = latents[..., 0, :].flatten(2), latents[..., -1, :].flatten(2)
    left, right = latents[..., 0].flatten(2), latents[..., -1].flatten(2)
    return torch.cat([top, bottom, left, right], dim=2).median(2).values[:, :, None, None, None]


def moments(where: Tensor) -> Tensor:
    """One, x, y and their products at each cell, [cells, 6]."""
    x, y = where[:2].flatten(1)
    return torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], dim=1)


def masses(strength: Tensor) -> Tensor:
    """Moments of the differences [N, h, w] in the whole picture and in its halves, each over its own mass, [N, 30]."""
    height, width = strength.shape[1:]
    where = coordinates(height, width).to(strength)
    x, y = where[:2]
    parts = torch.stack([torch.ones_like(x), (x < 0).float(), (x > 0).float(), (y < 0).float(), (y > 0).float()])
    weights = strength[:, None] * parts  # [N, 5, h, w]
    total = weights.sum((2, 3)) + 1e-3
    sums = (weights / total[..., None, None]).flatten(2) @ moments(where)  # [N, 5, 6]
    sums[..., 0] = (total / (height * width)).log() / 4
    return sums.flatten(1)


def coordinates(height: int, width: int) -> Tensor:
    """Places of cells, [4, h, w]: x and y in -1..1, the picture's shape, and ones (so that edges are felt)."""
    wide = width / height
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


def load_head(weights: Path) -> SoundHead:
    """The trained head from a folder of the demo model's weights, in float32."""
    head = SoundHead()
    head.load_state_dict(load_file(weights / "sound_head" / "model.safetensors"))
    return head.float().eval()


@torch.no_grad()
def hear_latents(head: SoundHead, latents: Tensor) -> list[Controls]:
    """What clips sound like, from their normalised latents [B, 16, f, h, w].

    Raises ValueError for latents of another shape, or longer than the head knows, and BadSound where the head says
    what is no number.
    """
    if latents.ndim != 5 or latents.shape[1] != CHANNELS or latents.shape[2] > latent_frames(FRAMES_MAX):
        raise ValueError(f"latents are [B, {CHANNELS}, f, h, w] with f ≤ {latent_frames(FRAMES_MAX)}")
    answer = head(latents.float().cpu())
    if not all(torch.isfinite(part).all() for part in (answer.knobs, answer.shapes, answer.presence)):
        raise BadSound("the sound head made numbers that are not finite")
    return controls_from(answer, 1 + TEMPORAL * (latents.shape[2] - 1))
