"""Follow the objects of a clip from its pixels alone: their ways, sizes and shapes, and when they hit something."""

from collections.abc import Callable, Iterator

import numpy as np

from workers.demo_model.config import FPS
from workers.demo_model.scene_detector import CORE_PIXELS, Segmentation, describe, segment_objects
from workers.demo_model.sound_law import Array, Track, control_times, make_track, spaced

FLIP = 0.03
"""A bounce lifts an object by more than this share of the shorter side within two frames before and after it."""

RESTING, GOING = 0.3, 0.05
"""An object rests at less than this share of its earlier speed; it went if that was above this, in sides per second."""


def seen_tracks(frames: np.ndarray) -> list[Track]:
    """The tracks of a clip of native size, uint8 [F, H, W, 3], in the order of `scene_detector.describe`."""
    count, height, width, _ = frames.shape
    segmentation = segment_objects(frames)
    sightings = describe(segmentation, along=0 if width >= height else 1).objects
    display = (width * segmentation.aspect, float(height))
    tracks = []
    outlines = [(sight, *_outline(segmentation, sight.color)) for sight in sightings]
    for sight, center, radius in outlines:
        if any(_fringe_of(center, radius, *other) for _, *other in outlines):
            continue
        contacts = spaced(np.array([*bounces(center, min(display)), *rests(center, min(display))]))
        at = np.minimum(control_times(count) * FPS, count - 1)
        fine = np.column_stack([np.interp(at, np.arange(count), column) for column in center.T])
        words = (sight.shape, sight.motion)
        tracks.append(make_track(words, fine, np.interp(at, np.arange(count), radius), display, contacts))
    return tracks


def _outline(segmentation: Segmentation, color: str) -> tuple[Array, Array]:
    """Centre of mass [F, 2] and radius [F] of an object per frame, in display pixels; gaps are bridged."""
    mask = segmentation.masks[color].astype(np.float64)
    count, height, width = mask.shape
    weight = mask.sum((1, 2))
    x = (mask.sum(1) @ ((np.arange(width) + 0.5) * segmentation.aspect)) / np.maximum(weight, 1e-9)
    y = (mask.sum(2) @ (np.arange(height) + 0.5)) / np.maximum(weight, 1e-9)
    area = weight * segmentation.aspect
    visible = np.nonzero(area > CORE_PIXELS)[0]
    every = np.arange(count)
    x, y, radius = (np.interp(every, visible, row[visible]) for row in (x, y, np.sqrt(area / np.pi)))
    return np.column_stack([x, y]), radius


def _fringe_of(center: Array, radius: Array, other: Array, wider: Array) -> bool:
    """Whether an object is the soft edge of a larger one, which can look like a colour between the two."""
    apart = np.linalg.norm(center - other, axis=1)
    return bool(np.median(radius) < np.median(wider) and np.median(apart) < np.median(wider))


def bounces(center: Array, side: float) -> Iterator[float]:
    """Seconds at which an object turns at the bottom of its way at once; `center` [F, 2] at the native frame rate."""
    x, y = center[:, 0], center[:, 1]
    lows = [
        index
        for index in range(1, len(y) - 1)
        if y[index] >= y[index - 1] and y[index] > y[index + 1] and _turns(x, y, index, side)
    ]
    if not lows:
        return
    period = float(np.median(np.diff(lows))) if len(lows) > 1 else 12.8
    for low in lows:
        yield _fit_bounce(y, low, max(period, 4.0)) / FPS


def _turns(x: Array, y: Array, low: int, side: float) -> bool:
    """Whether an object falls to a lowest frame and rises from it, both by much and without moving sideways."""
    near = slice(max(low - 2, 0), low + 3)
    rise = min(y[low] - y[near][: min(low, 2)].min(), y[low] - y[near][min(low, 2) + 1 :].min())
    return bool(rise > FLIP * side and np.ptp(x[near]) < 0.5 * np.ptp(y[near]))


def _fit_bounce(y: Array, low: int, period: float) -> float:
    """The frame, with its fraction, at which y = floor - height · |sin| has its nearest turn; `period` in frames."""
    reach = max(2, int(period * 0.45))
    index = np.arange(max(low - reach, 0), min(low + reach + 1, len(y)))

    def arc(at: float) -> Array:
        return np.abs(np.sin(np.pi * (index - at) / period))

    return _best(y[index], arc, low - 1.0, low + 1.0)[0]


def _best(row: Array, curve: Callable[[float], Array], low: float, high: float) -> tuple[float, float, float]:
    """Where a curve's free place must be, from low to high, so that row = offset + factor · curve fits best.

    Returns the place, the factor, and the root mean square of what is missed. A coarse search, then a fine one.
    """

    def miss(at: float) -> tuple[float, float, float]:
        shape = curve(at)
        spread = shape - shape.mean()
        factor = float(spread @ row / max(spread @ spread, 1e-9))
        left = row - row.mean() - factor * spread
        return float(np.sqrt(left @ left / len(row))), at, factor

    coarse = min(miss(at) for at in np.arange(low, high + 1e-9, 0.5))[1]
    error, at, factor = min(miss(at) for at in np.arange(max(coarse - 0.5, low), min(coarse + 0.5, high) + 1e-9, 0.05))
    return float(at), factor, error


def rests(center: Array, side: float) -> Iterator[float]:
    """The second at which an object that went straight comes to rest for good, if it does."""
    way = center - center[0]
    reach = np.ptp(way, axis=0)
    axis = int(np.argmax(reach))
    if reach[axis] < 0.04 * side or reach[1 - axis] > 0.5 * reach[axis] or len(center) < 6:
        return
    place = way[:, axis] * np.sign(way[-1, axis] or 1.0)
    index = np.arange(len(place))
    at, speed, error = _best(place, lambda at: np.minimum(index - at, 0.0), 0.5, len(place) - 2.0)
    after = place[int(np.ceil(at)) :]
    later = abs(after[-1] - after[0]) / max(len(after) - 1, 1)
    straight = error < 0.03 * side
    if straight and speed * FPS / side > GOING and later < RESTING * speed and np.ptp(after) < 0.05 * side:
        yield at / FPS
