"""Colour bars with burnt-in frame numbers, and a click: an engine without weights, for test keys and fault tests."""

from collections.abc import Generator
from hashlib import sha256
from threading import Event
from time import perf_counter

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.catalog.models import VideoModel
from app.settings import get_settings
from workers.engine.continuation import Continuation
from workers.engine.errors import ModelRefused
from workers.engine.faults import break_frames, break_process, next_fault
from workers.engine.meter import Meter, peak_host_bytes
from workers.engine.request import EngineControl, Frames, SegmentRequest
from workers.engine.sound import SOUND_RATE, Sound, sample_count

CHUNK_FRAMES = 8
# The seven bars of SMPTE EG 1 at 75 %, as RGB; the seed decides their order, so that films can be told apart.
BARS = np.array(
    [(191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191)],
    dtype=np.uint8,
)


CLICK_SAMPLES = SOUND_RATE // 1000
CLICK_LEVEL = 0.5


class SyntheticEngine:
    """Draws frames that show their own number, deterministic per seed, with the interface of a real engine.

    A test can break its renders; see `workers.engine.faults`.
    With sound, one frame of each clip is white (`marked_frame`), and a click of a millisecond begins with it.
    """

    def __init__(self, model: VideoModel) -> None:
        self.model = model
        self.meter = Meter()
        self.handover: Continuation | None = None
        self.sound: Sound | None = None

    def load(self) -> None:
        """Nothing needs loading."""

    def prefetch(self, request: SegmentRequest) -> None:
        """Nothing can be prepared."""

    def close(self) -> None:
        """Nothing is held."""

    def render(self, request: SegmentRequest, control: EngineControl) -> Generator[Frames]:
        """Yield the segment's frames as uint8 [f, H, W, 3]; see `Engine.render`.

        Each of the request's steps waits `switches.step_seconds`, and a request to stop takes effect within a step.
        """
        if min(request.frames, request.width, request.height) < 1:
            raise ModelRefused("a segment needs at least one frame and one pixel")
        if request.handover is not None:
            request.handover.check(width=request.width, height=request.height)
        self.meter, self.handover, self.sound = Meter(), None, None
        fault = next_fault(get_settings().synthetic_faults)
        with self.meter.stage("denoise"):
            self._pretend_steps(request, control, fault)
        first = int(request.handover.facts["next_frame"]) if request.handover is not None else 0
        background = _background(request)
        marked = first + marked_frame(request.frames) if request.sound else None
        last: Frames | None = None
        for start in range(0, request.frames, CHUNK_FRAMES):
            control.check()
            began = perf_counter()
            numbers = range(first + start, first + min(start + CHUNK_FRAMES, request.frames))
            chunk = np.stack(
                [
                    _frame(np.full_like(background, 255) if number == marked else background, number, request)
                    for number in numbers
                ]
            )  # [f, H, W, 3]
            chunk = break_frames(fault, chunk, is_first=start == 0)
            last = chunk[-1:]
            self.meter.frames += len(chunk)
            self.meter.add("decode", perf_counter() - began)
            yield chunk
        assert last is not None
        segment = request.handover.segment + 1 if request.handover is not None else 0
        facts = {"next_frame": first + request.frames}
        self.handover = Continuation(self.model.id, segment, last.astype(np.float32) / np.float32(255), facts=facts)
        self.sound = _click(request) if request.sound else None
        self.meter.peak_memory_bytes = peak_host_bytes()

    def _pretend_steps(self, request: SegmentRequest, control: EngineControl, fault: str | None) -> None:
        """Go through the request's steps as a model would, each lasting the catalogue's `step_seconds`.

        A fault of the process comes in the middle of them.
        """
        never = Event()
        for step in range(request.steps):
            control.check()
            if step == request.steps // 2:
                break_process(fault)
            if self.model.switches.step_seconds:
                never.wait(self.model.switches.step_seconds)
            self.meter.steps += 1
            preview = np.broadcast_to(np.uint8(255 * (step + 1) // request.steps), (9, 16, 3)).copy()
            control.on_step(step + 1, request.steps, preview)
        control.check()


def marked_frame(frames: int) -> int:
    """Return the number of the frame, in a clip of `frames`, that is white and clicks where the clip has sound."""
    return frames // 3


def _click(request: SegmentRequest) -> Sound:
    """Return a clip's sound: silence but for a click that begins with the marked frame."""
    samples = np.zeros((sample_count(request.frames, request.fps), 2), np.float32)
    begin = sample_count(marked_frame(request.frames), request.fps)
    samples[begin : begin + CLICK_SAMPLES] = np.float32(CLICK_LEVEL)
    return Sound(samples)


def _background(request: SegmentRequest) -> Frames:
    """Return the picture under the numbers, uint8 [H, W, 3]: the bars, or the request's own first picture."""
    if request.first_frame is not None:
        picture = np.asarray(request.first_frame)
        if picture.shape != (request.height, request.width, 3):
            raise ModelRefused(f"the first frame has shape {picture.shape}, not [{request.height}, {request.width}, 3]")
        return picture
    bars = np.roll(BARS, _digest(request)[0] % len(BARS), axis=0)
    columns = np.arange(request.width) * len(BARS) // request.width
    return np.broadcast_to(bars[columns], (request.height, request.width, 3)).copy()


def _digest(request: SegmentRequest) -> bytes:
    """Return bytes that the seed decides, for the order of the bars and the colour of the strip."""
    return sha256(f"{request.seed}".encode()).digest()


def _frame(background: Frames, number: int, request: SegmentRequest) -> Frames:
    """Return one frame, uint8 [H, W, 3]: the background, a strip that moves, and the frame's number and time."""
    picture = background.copy()
    height, width = picture.shape[:2]
    strip = max(1, width // 40)
    left = number * strip % width
    picture[:, left : left + strip] = np.frombuffer(_digest(request)[1:4], dtype=np.uint8)
    image = Image.fromarray(picture)
    text = f"{number:05d}  {number / request.fps:.2f}s"
    font = ImageFont.load_default(size=max(10, height // 8))
    box = ImageDraw.Draw(image).textbbox((width // 2, height // 2), text, font=font, anchor="mm")
    ImageDraw.Draw(image).rectangle((box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4), fill=(0, 0, 0))
    ImageDraw.Draw(image).text((width // 2, height // 2), text, font=font, anchor="mm", fill=(255, 255, 255))
    return np.asarray(image)
