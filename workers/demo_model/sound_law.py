"""The law of sound in the demo model's world: which voice an object has, how it moves, and when it clicks.

One voice per object, at most two, the left (or upper) object's first. Timbre tells the shape, pitch the size (who grows
rises) and a little the height in the picture, pan the place from left to right, loudness the speed. Whatever is hit or
comes to rest at an edge clicks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.catalog.demo_words import Scene
from workers.demo_model.config import FPS, pixel_aspect
from workers.demo_model.scenes import paths

Array = npt.NDArray[np.float64]

CONTROL_RATE = 40
"""Control points per second: values of the voices' curves, five per native frame."""

PER_FRAME = CONTROL_RATE // FPS
VOICES = 2

BASE_HERTZ = 330.0
BASE_RADIUS = 0.24
"""An object of this radius (in shorter display sides), halfway up the picture, sounds at this pitch."""

REGISTERS = (1.0, 2 ** (9 / 12))
"""The second voice sings a major sixth higher: two objects of equal size make a consonance, not a beat."""

HEIGHT_OCTAVES = 1 / 3
"""The top of the picture sounds so much higher than its bottom; a turn in a circle becomes a slow vibrato."""

HUM, LOUDEST, BRISK = 0.15, 0.5, 0.4
"""Level of what stands still, level that speed adds up to, and the speed (sides per second) that adds 63 % of it."""

GROWTH_COUNTS = 3.0
"""A change of radius counts as so much movement: it is small and wants to be heard."""

CLICK_LEAST_SECONDS = 0.1
"""Two contacts of one object lie at least this far apart."""


@dataclass(frozen=True, eq=False)
class Track:
    """One object's way through a clip at the control rate: its shape and motion in words, and where it is.

    `x` and `y` are shares of the picture's width and height, `radius` is in shorter display sides, `speed` in such
    sides per second, each [n]; `contacts` are seconds since the clip's first frame.
    """

    shape: str
    motion: str
    x: Array
    y: Array
    radius: Array
    speed: Array
    contacts: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Controls:
    """What the synthesiser plays, at the control rate.

    `level` 0..1, `pitch` in Hz, `pan` 0 (left) to 1 (right), each [2, n], one row per voice; `shapes` names each
    voice's timbre, "" where the voice is silent; `contacts` are each voice's clicks, in seconds.
    """

    level: Array
    pitch: Array
    pan: Array
    shapes: tuple[str, str]
    contacts: tuple[tuple[float, ...], tuple[float, ...]]


def control_count(frames: int) -> int:
    """Control points of so many native frames."""
    return frames * PER_FRAME


def control_times(frames: int) -> Array:
    """Seconds of the control points since the first frame, [n]."""
    return np.arange(control_count(frames)) / CONTROL_RATE


def make_track(
    words: tuple[str, str], center: Array, radius: Array, display: tuple[float, float], contacts: tuple[float, ...]
) -> Track:
    """A track from a way at the control rate, and the words for its shape and motion.

    `center` [n, 2] and `radius` [n] are in display pixels; `display` is the picture's width and height in them.
    """
    side = min(display)
    half = PER_FRAME // 2 + 1
    padded = np.pad(np.column_stack([center, GROWTH_COUNTS * radius]) / side, ((half, half), (0, 0)), mode="edge")
    speed = np.linalg.norm(padded[2 * half :] - padded[: -2 * half], axis=1) * CONTROL_RATE / (2 * half)
    return Track(*words, center[:, 0] / display[0], center[:, 1] / display[1], radius / side, speed, contacts)


def world_tracks(
    scene: Scene,
    width: int,
    height: int,
    frames: int,
    rng: np.random.Generator,
    *,
    start: float = 0.0,
    anywhere: bool = False,
) -> list[Track]:
    """The tracks of a scene as the world has them; the generator must be where `world.paths` would be called with it.

    Arguments as in `paint.paint`. Points after the last frame's time hold its place.
    """
    fine = 25
    count = (frames - 1) * PER_FRAME * fine + 1
    times = start + np.arange(count) / (CONTROL_RATE * fine)
    display = (width * pixel_aspect(width, height), float(height))
    tracks = []
    for thing, path in zip(scene.things, paths(scene, width, height, times, rng, anywhere=anywhere), strict=True):
        tail = (0, PER_FRAME - 1)
        center = np.pad(path.center[::fine], (tail, (0, 0)), mode="edge")
        radius = np.pad(path.radius[::fine], tail, mode="edge")
        contacts = _jolts(path.center, CONTROL_RATE * fine)
        tracks.append(make_track((thing.shape, thing.motion), center, radius, display, contacts))
    return tracks


def _jolts(center: Array, rate: int) -> tuple[float, ...]:
    """Seconds at which a way [n, 2], finely sampled, changes its speed at once: it hits something or comes to rest."""
    velocity = np.diff(center, axis=0) * rate
    change = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
    fastest = float(np.linalg.norm(velocity, axis=1).max(initial=0.0))
    if fastest < 1e-6:
        return ()
    sudden = (np.nonzero(change > 0.15 * fastest)[0] + 1) / rate
    return spaced(sudden)


def spaced(seconds: Array) -> tuple[float, ...]:
    """Times in order, without those that follow another too closely."""
    times: list[float] = []
    for second in np.sort(seconds):
        if not times or second - times[-1] >= CLICK_LEAST_SECONDS:
            times.append(float(second))
    return tuple(times)


def controls_of(tracks: list[Track], frames: int) -> Controls:
    """Play tracks by the law; at most two, the left or upper one first."""
    count = control_count(frames)
    level, pan = np.zeros((VOICES, count)), np.full((VOICES, count), 0.5)
    pitch = np.outer(REGISTERS, np.full(count, BASE_HERTZ))
    shapes = ["", ""]
    contacts: list[tuple[float, ...]] = [(), ()]
    for voice, track in enumerate(tracks[:VOICES]):
        level[voice] = HUM + (LOUDEST - HUM) * (1 - np.exp(-track.speed / BRISK))
        octaves = np.log2(np.maximum(track.radius, 1e-3) / BASE_RADIUS) + HEIGHT_OCTAVES * (0.5 - track.y)
        pitch[voice] = REGISTERS[voice] * BASE_HERTZ * np.exp2(np.clip(octaves, -1.25, 1.25))
        pan[voice] = np.clip(track.x, 0.0, 1.0)
        shapes[voice], contacts[voice] = track.shape, track.contacts
    return Controls(level, pitch, pan, (shapes[0], shapes[1]), (contacts[0], contacts[1]))
