"""Draw scenes as pixels: flat colours, soft edges, nothing that a small codec would lose."""

import numpy as np

from app.catalog.demo_words import BACKGROUNDS, COLORS, Scene
from workers.demo_model.config import pixel_aspect
from workers.demo_model.scenes import Path, clip_times, paths

EDGE = 1.4
"""Width of an object's soft edge, in pixels."""

COLOR_JITTER = 5.0
"""Colours vary by so many levels from clip to clip, so that the model sees colours, not constants."""


def coverage(shape: str, path: Path, width: int, height: int) -> np.ndarray:
    """How much of each pixel the object covers, float32 in 0..1, [F, H, W]."""
    aspect = pixel_aspect(width, height)
    x = (np.arange(width, dtype=np.float32) + 0.5) * aspect
    y = np.arange(height, dtype=np.float32) + 0.5
    dx = x[None, None, :] - path.center[:, 0].astype(np.float32)[:, None, None]  # [F, 1, W]
    dy = y[None, :, None] - path.center[:, 1].astype(np.float32)[:, None, None]  # [F, H, 1]
    distance = signed_distance(shape, dx, dy, path.radius.astype(np.float32)[:, None, None])
    return np.clip(0.5 - distance / EDGE, 0.0, 1.0)


def signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How far points at dx, dy from an object's centre of mass lie outside its outline, in the unit of the three."""
    if shape == "circle":
        return np.sqrt(dx * dx + dy * dy) - radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - 0.8862 * radius
    if shape == "triangle":  # upright and equilateral: three half planes at 0.7776 radii from the centre of mass
        slope = np.sqrt(np.float32(3.0)) / 2
        return np.maximum(np.abs(dx) * slope - dy * 0.5, dy) - 0.7776 * radius
    raise ValueError(f"No such shape: {shape}")


def paint(
    scene: Scene,
    width: int,
    height: int,
    frames: int,
    rng: np.random.Generator,
    *,
    start: float = 0.0,
    anywhere: bool = False,
    hold: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one clip of `frames` frames at 8 frames per second, in a native size in pixels.

    `start` is the seconds of the motion before the clip begins. `anywhere` starts objects anywhere, not where their
    motion has most room. `hold` last frames repeat the frame before them (for clips with a last-frame input).
    Returns the pixels as float32 in 0..255, [F, H, W, 3], and the objects' joint mask as float32 in 0..1, [F, H, W].
    """
    times = clip_times(frames, start)
    times = np.minimum(times, times[frames - 1 - hold])
    back = np.array(BACKGROUNDS[scene.background], np.float32) + rng.uniform(-COLOR_JITTER, COLOR_JITTER, 3)
    pixels = np.broadcast_to(back.astype(np.float32), (frames, height, width, 3)).copy()
    mask = np.zeros((frames, height, width), np.float32)
    for thing, path in zip(scene.things, paths(scene, width, height, times, rng, anywhere=anywhere), strict=True):
        color = (np.array(COLORS[thing.color], np.float32) + rng.uniform(-COLOR_JITTER, COLOR_JITTER, 3)).astype(
            np.float32
        )
        cover = coverage(thing.shape, path, width, height)
        pixels += cover[..., None] * (color - pixels)
        mask = np.maximum(mask, cover)
    return np.clip(pixels, 0.0, 255.0), mask
