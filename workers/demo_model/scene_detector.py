"""Detect the scene of a clip: background, objects, their colours, shapes and motions. It knows no prompt."""

from dataclasses import dataclass

import numpy as np

from app.catalog.demo_words import BACKGROUNDS, COLORS, Scene
from workers.demo_model.config import pixel_aspect

SQUARE_FOURTH = -1 / 60
"""Real part of the fourth complex moment of an upright square, over area cubed; a circle has zero."""

TRIANGLE_THIRD = 0.0675
"""Third complex moment of an upright equilateral triangle, over area to the 2.5th; circle and square have zero."""

CORE_PIXELS = 20
SECOND_OBJECT = 0.12
"""Fewest inner pixels of an object, and the least share of the larger object's that a second one has."""

STILL = 0.05
GROWN = 1.5
"""A still object strays by less than this share of the shorter side; a growing one gains this factor in area."""

DETOUR = 1.35
"""A straight way is no longer than this times the distance it covers."""


@dataclass(frozen=True)
class Detection:
    """One object as seen: words, and the mean place in pixels for telling two objects apart."""

    color: str
    shape: str
    motion: str
    place: tuple[float, float]


@dataclass(frozen=True)
class DetectedScene:
    """A clip as seen."""

    background: str
    objects: tuple[Detection, ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A clip taken apart: its background's word, and per object (by colour word) how much of each pixel it covers.

    `masks` are 0..1, [F, H, W]; `aspect` is width ÷ height of a pixel as people see it.
    """

    background: str
    masks: dict[str, np.ndarray]
    aspect: float


def segment_objects(frames: np.ndarray) -> Segmentation:
    """Find the background and the one or two objects of a clip of native size, uint8 [F, H, W, 3]."""
    pixels = frames.astype(np.float32)
    _, height, width, _ = pixels.shape
    border = np.ones((height, width), bool)
    border[2:-2, 2:-2] = False
    back = np.median(pixels[:, border].reshape(-1, 3), axis=0)
    background = _nearest(back, BACKGROUNDS)
    cores = _cores(pixels, back, background)
    masks = {}
    for name, core in cores.items():
        color = np.median(pixels[core], axis=0)
        others = [np.median(pixels[other], axis=0) for key, other in cores.items() if key != name]
        masks[name] = _alpha(pixels, back, color, others) * _around(core)
    return Segmentation(background, masks, pixel_aspect(width, height))


def detect_scene(frames: np.ndarray) -> DetectedScene:
    """Describe a clip of native size, uint8 [F, H, W, 3]."""
    return describe(segment_objects(frames), along=0 if frames.shape[2] >= frames.shape[1] else 1)


def describe(segmentation: Segmentation, along: int) -> DetectedScene:
    """Say in words what was found; objects are ordered by their place along an axis (0: from left to right)."""
    sightings = [_describe(name, mask, segmentation.aspect) for name, mask in segmentation.masks.items()]
    return DetectedScene(
        segmentation.background, tuple(sorted((each for each in sightings if each), key=lambda each: each.place[along]))
    )


def score_prompt(frames: np.ndarray, scene: Scene) -> dict[str, bool]:
    """Whether a clip shows what a scene asks for: background, color, shape, motion, and all of them together."""
    seen = detect_scene(frames)
    whole = len(seen.objects) == len(scene.things)
    pairs = list(zip(scene.things, seen.objects, strict=False))
    verdict = {
        "background": seen.background == scene.background,
        "color": whole and all(thing.color == sight.color for thing, sight in pairs),
        "shape": whole and all(thing.shape == sight.shape for thing, sight in pairs),
        "motion": whole and all(thing.motion == sight.motion for thing, sight in pairs),
    }
    return {**verdict, "all": all(verdict.values())}


def _nearest(color: np.ndarray, table: dict[str, tuple[int, int, int]]) -> str:
    """The name of the nearest colour of a table."""
    return min(table, key=lambda name: float(np.square(color - np.array(table[name], np.float32)).sum()))


def _cores(pixels: np.ndarray, back: np.ndarray, background: str) -> dict[str, np.ndarray]:
    """Inner pixels [F, H, W] of the one or two objects, by colour, the larger first."""
    names = [name for name in COLORS if name != background]
    palette = np.stack([back, *(np.array(COLORS[name], np.float32) for name in names)])
    # |p - c|² without |p|², which is the same for every colour; a product of matrices is many times quicker.
    labels = np.argmin(np.square(palette).sum(-1) - 2 * (pixels @ palette.T), axis=-1)  # [F, H, W]
    objects = {}
    for index, name in enumerate(names, start=1):
        here = labels == index
        inner = here.copy()  # Soft edges between two colours can look like a third, but only one pixel wide.
        inner[:, 1:-1, 1:-1] &= here[:, :-2, 1:-1] & here[:, 2:, 1:-1] & here[:, 1:-1, :-2] & here[:, 1:-1, 2:]
        inner[:, [0, -1]] = False
        inner[:, :, [0, -1]] = False
        size = float(np.percentile(inner.sum((1, 2)), 80))
        if size >= CORE_PIXELS:
            objects[name] = (size, inner)
    ranked = sorted(objects.items(), key=lambda item: -item[1][0])[:2]
    return {name: inner for name, (size, inner) in ranked if size >= SECOND_OBJECT * ranked[0][1][0]}


def _alpha(pixels: np.ndarray, back: np.ndarray, color: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """How much of each pixel is the object, 0..1, taking pixels as mixtures of background and one object."""

    def mixture(tint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        way = tint - back
        share = np.clip(((pixels - back) @ way) / float(way @ way), 0.0, 1.0)
        return share, np.square(pixels - back - share[..., None] * way).sum(-1)

    share, miss = mixture(color)
    for other in others:
        share = np.where(miss <= mixture(other)[1], share, 0.0)
    return np.where(share > 0.15, share, 0.0)


def _around(core: np.ndarray, margin: int = 4) -> np.ndarray:
    """The core's bounding box per frame, widened by a margin, as a mask [F, H, W]."""
    mask = np.zeros(core.shape, bool)
    for frame, inner in enumerate(core):
        ys, xs = np.nonzero(inner)
        if len(ys):
            mask[
                frame,
                max(ys.min() - margin, 0) : ys.max() + margin + 1,
                max(xs.min() - margin, 0) : xs.max() + margin + 1,
            ] = True
    return mask


def _describe(color: str, alpha: np.ndarray, aspect: float) -> Detection | None:
    """Shape and motion of one object from its soft masks [F, H, W]."""
    _, height, width = alpha.shape
    z = (np.arange(width) * aspect)[None, :] + 1j * np.arange(height)[:, None]
    area = alpha.sum((1, 2)) * aspect
    valid = area > CORE_PIXELS
    if valid.sum() < 3:
        return None
    alpha, area = alpha[valid], area[valid]
    center = (alpha * z).sum((1, 2)) * aspect / area
    spread = z[None] - center[:, None, None]
    squared = spread * spread
    third = (alpha * (squared * spread)).sum((1, 2)) * aspect / area**2.5
    fourth = (alpha * (squared * squared)).sum((1, 2)) * aspect / area**3
    large = area >= np.median(area)  # Small outlines are the least certain ones.
    if abs(third[large].mean()) > TRIANGLE_THIRD / 2:
        shape = "triangle"
    else:
        shape = "square" if fourth[large].mean().real < SQUARE_FOURTH / 2 else "circle"
    side = min(width * aspect, height)
    return Detection(color, shape, _motion(center, area, side), (float(center.real.mean()), float(center.imag.mean())))


def _motion(center: np.ndarray, area: np.ndarray, side: float) -> str:
    """The motion word of a way (complex numbers, one per frame) and areas; "" where none fits."""
    head = max(2, len(area) // 8)
    change = float(np.median(area[-head:]) / np.median(area[:head]))
    if not 1 / GROWN < change < GROWN:
        return "grow" if change > 1 else "shrink"
    smooth = np.convolve(center, np.ones(3) / 3, "valid") if len(center) > 4 else center
    reach = np.array([np.ptp(smooth.real), np.ptp(smooth.imag)])
    if reach.max() < STILL * side:
        return "still"
    net = smooth[-1] - smooth[0]
    way = np.array([np.abs(np.diff(smooth.real)).sum(), np.abs(np.diff(smooth.imag)).sum()])
    if reach.min() > 0.4 * reach.max() and np.hypot(*way) > DETOUR * abs(net):
        return "orbit"
    if reach[1] > 2 * reach[0] and way[1] > DETOUR * abs(net.imag):
        return "bounce"
    axis = int(np.argmax(reach))
    if reach[1 - axis] > 0.5 * reach[axis] or way[axis] > DETOUR * abs((net.real, net.imag)[axis]):
        return ""
    if axis == 0:
        return "right" if net.real > 0 else "left"
    return "down" if net.imag > 0 else "up"
