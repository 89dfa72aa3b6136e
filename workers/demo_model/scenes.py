"""The demo model's scenes: which exist, which are held out of training, and where each object is at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.catalog.demo_words import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    SHAPES,
    SIZELESS,
    SIZES,
    SPEEDLESS,
    SPEEDS,
    Scene,
    Thing,
)
from workers.demo_model.config import FPS, pixel_aspect

RADII = {"small": 0.19, "": 0.24, "big": 0.29}
"""Radius of the circle with the object's area, in shorter sides of its box."""

GROWTH = (0.14, 0.33)
"""Radius at the start and at the end of growing, in the same unit; shrinking runs backwards."""

PACE = {"slowly": 0.5, "": 1.0, "quickly": 1.8}
TRAVEL_PER_SECOND = 0.2
"""Way of a moving object per second at normal pace, in shorter sides of the picture."""

BOUNCE_SECONDS, ORBIT_SECONDS, GROWTH_SECONDS = 1.6, 3.2, 3.0
"""Time of one bounce, one turn, one growth at normal pace."""

EXTENT = {  # left, right, up, down reach from the centre of mass, in radii of the circle of equal area
    "circle": (1.0, 1.0, 1.0, 1.0),
    "square": (0.8862, 0.8862, 0.8862, 0.8862),
    "triangle": (1.3468, 1.3468, 1.5551, 0.7776),
}
TWO_OBJECTS = 0.15
"""Share of scenes with two objects in the world, and so in the evaluation."""

TWO_OBJECTS_TRAINED = 0.3
"""Their share in training: they are harder, so they come more often."""


@dataclass(frozen=True)
class Path:
    """An object's way through a clip: centre of mass in display pixels and radius, one row per frame."""

    center: np.ndarray  # [F, 2] x, y
    radius: np.ndarray  # [F]


def is_held_out(background: str, thing: Thing) -> bool:
    """Whether this combination of background, colour, shape and motion is kept out of training (one in six)."""
    key = f"{background}/{thing.color}/{thing.shape}/{thing.motion}"
    return hashlib.sha256(key.encode()).digest()[0] % 6 == 0


def draw_thing(rng: np.random.Generator, background: str, used_colors: tuple[str, ...], held_out: bool | None) -> Thing:
    """Draw an object that is visible on the background; held_out None takes any combination."""
    while True:
        motion = str(rng.choice(list(MOTIONS)))
        thing = Thing(
            color=str(rng.choice([name for name in COLORS if name != background and name not in used_colors])),
            shape=str(rng.choice(SHAPES)),
            motion=motion,
            size="" if motion in SIZELESS else str(rng.choice(SIZES, p=(0.2, 0.6, 0.2))),
            speed="" if motion in SPEEDLESS else str(rng.choice(SPEEDS, p=(0.2, 0.6, 0.2))),
        )
        if held_out is None or is_held_out(background, thing) == held_out:
            return thing


def draw_scene(rng: np.random.Generator, *, held_out: bool | None = False, two: float = TWO_OBJECTS) -> Scene:
    """Draw a scene: from the training world (False), from what was held out (True), or from all of it (None)."""
    background = str(rng.choice(list(BACKGROUNDS)))
    things: tuple[Thing, ...] = ()
    for _ in range(1 + int(rng.random() < two)):
        things += (draw_thing(rng, background, tuple(thing.color for thing in things), held_out),)
    return Scene(background, things)


def boxes(count: int, width: float, height: float) -> Iterator[tuple[float, float, float, float]]:
    """The box each object stays in, x0, y0, x1, y1 in display pixels: the picture, or halves of its longer side."""
    if count == 1:
        yield 0.0, 0.0, width, height
        return
    if width >= height:
        yield 0.0, 0.0, width / 2, height
        yield width / 2, 0.0, width, height
    else:
        yield 0.0, 0.0, width, height / 2
        yield 0.0, height / 2, width, height


def paths(
    scene: Scene, width: int, height: int, times: np.ndarray, rng: np.random.Generator, *, anywhere: bool
) -> list[Path]:
    """Return the positions of the scene's objects at `times`, seconds since the motion began, [F].

    `width` and `height` are a native size in pixels. `anywhere` starts anywhere in the box, as in a customer's picture,
    instead of where the motion has most room.
    """
    display_width = width * pixel_aspect(width, height)
    places = boxes(len(scene.things), display_width, float(height))
    return [
        _path(thing, box, min(display_width, height), times, rng, anywhere)
        for thing, box in zip(scene.things, places, strict=True)
    ]


def _path(
    thing: Thing,
    box: tuple[float, float, float, float],
    side: float,
    times: np.ndarray,
    rng: np.random.Generator,
    anywhere: bool,
) -> Path:
    """One object's way; the box bounds it, and who reaches the edge rests there."""
    x0, y0, x1, y1 = box
    unit = min(x1 - x0, y1 - y0)
    pace = PACE[thing.speed]
    radius = np.full(len(times), RADII[thing.size] * unit * rng.uniform(0.94, 1.06))
    if thing.motion in SIZELESS:
        done = np.clip(times * pace / GROWTH_SECONDS, 0.0, 1.0)
        done = done if thing.motion == "grow" else 1.0 - done
        radius = unit * (GROWTH[0] + (GROWTH[1] - GROWTH[0]) * done) * rng.uniform(0.96, 1.04)
    left, right, up, down = (reach * float(radius.max()) for reach in EXTENT[thing.shape])
    low = np.array([x0 + left + 1.5, y0 + up + 1.5])
    high = np.array([x1 - right - 1.5, y1 - down - 1.5])
    room = np.maximum(high - low, 0.0)
    near, far = rng.uniform(0.0, 0.12), rng.uniform(0.88, 1.0)
    middle = rng.uniform(0.38, 0.62, size=2) if not anywhere else rng.uniform(0.0, 1.0, size=2)
    start = low + room * middle
    way = TRAVEL_PER_SECOND * side * pace * times
    center = np.tile(start, (len(times), 1))
    if thing.motion in ("left", "right", "up", "down"):
        axis = 0 if thing.motion in ("left", "right") else 1
        sign = 1.0 if thing.motion in ("right", "down") else -1.0
        if not anywhere:
            start[axis] = low[axis] + room[axis] * (near if sign > 0 else far)
        center[:, axis] = np.clip(start[axis] + sign * way, low[axis], low[axis] + room[axis])
    elif thing.motion == "bounce":
        height = room[1] * rng.uniform(0.85, 1.0)
        center[:, 1] = high[1] - height * np.abs(np.sin(np.pi * times * pace / BOUNCE_SECONDS))
    elif thing.motion == "orbit":
        reach = 0.5 * float(room.min()) * rng.uniform(0.85, 1.0)
        angle = 2 * np.pi * times * pace / ORBIT_SECONDS
        hub = low + np.maximum(reach, np.minimum(room * middle, room - reach))
        center = hub + reach * np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    return Path(center, radius)


def clip_times(frames: int, start: float = 0.0, fps: float = FPS) -> np.ndarray:
    """Times of a clip's frames, in seconds since the motion began, [F]."""
    return start + np.arange(frames) / fps
