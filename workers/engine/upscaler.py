"""The upscaler: what a small model decodes becomes larger pictures and more of them, with edges drawn anew.

Outlines are signed distances, which are smooth and so can be enlarged: at a frame's time, at times between it and the
next, and at the next one's. Where a frame shows circles, squares or triangles, a tracker says where these are at each
time. Where it shows something else, a small U-Net that looks at four neighbouring frames draws the outlines freely.
Colours come from the frames themselves: what lies well inside an outline and what lies well outside it. Where there is
no outline, as in a photograph, the decoded picture stays.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from workers.engine.decode import FrameSelection, to_bytes
from workers.engine.shape_drawing import AFTER, BEFORE, OUTLINE_SCALE, REACH, WINDOW, compose, coverage_of
from workers.engine.shape_tracking import PathNet, Tracker

FILE = Path("upscaler") / "model.safetensors"
"""Where the weights lie in the folder of a model's weights."""

_WIDTHS = (16, 32, 48)


class _Residual(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.second(functional.relu(self.first(functional.relu(hidden))))


class Upscaler(nn.Module):
    """Draws `pace` frames [B, pace, 3, scale H, scale W] from a window of four [B, 4, 3, H, W], all in -1..1.

    H and W divide by four. The first drawn frame is the window's second one, the others follow it at equal distances,
    before the third. `missing` [B, 2] is 1 where the window's third or fourth frame lies beyond the clip's end; it
    then repeats the clip's last one. A window at the clip's beginning repeats the first one.
    """

    def __init__(self, scale: int = 4, pace: int = 2) -> None:
        super().__init__()
        self.scale, self.pace = scale, pace
        fine, middle, coarse = _WIDTHS
        self.conv_in = nn.Conv2d(WINDOW + AFTER, fine, 3, padding=1)
        self.fine_in = _Residual(fine)
        self.down_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle_in = _Residual(middle)
        self.down_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(*(_Residual(coarse) for _ in range(4)))
        self.up_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_out = _Residual(middle)
        self.up_fine = nn.Conv2d(middle, fine, 1)
        self.fine_out = _Residual(fine)
        self.path = PathNet(pace)
        self.conv_out = nn.Conv2d(fine, (pace + 1) * OUTLINE_SCALE**2, 3, padding=1)

    def outlines(self, coverage: Tensor, missing: Tensor) -> Tensor:
        """Signed distances in native pixels, negative inside, [B, pace + 1, 2H, 2W]; the last is the third frame's.

        `coverage` [B, 4, H, W] says how much of each point is an object, about 0 to 1; see `coverage_of`.
        """
        height, width = coverage.shape[-2:]
        planes = missing.to(coverage)[:, :, None, None].expand(-1, -1, height, width)
        seen = torch.cat([coverage, planes], dim=1).contiguous(memory_format=torch.channels_last)
        fine = self.fine_in(self.conv_in(seen))
        middle = self.middle_in(self.down_middle(functional.relu(fine)))
        coarse = self.coarse(self.down_coarse(functional.relu(middle)))
        middle = middle + functional.interpolate(self.up_middle(coarse), scale_factor=2.0, mode="nearest")
        middle = self.middle_out(middle)
        fine = fine + functional.interpolate(self.up_fine(middle), scale_factor=2.0, mode="nearest")
        fine = functional.relu(self.fine_out(fine))
        return functional.pixel_shuffle(self.conv_out(fine), OUTLINE_SCALE)

    def forward(self, window: Tensor, missing: Tensor, tracker: Tracker, skip: int = 0) -> Tensor:
        """Draw the windows of a clip, in its order; the first `skip` ones are looked at and not drawn."""
        coverage = coverage_of(window)
        shapes = tracker.follow(window, coverage, missing, OUTLINE_SCALE)
        window, fits = window[skip:], shapes.fits[skip:].view(-1, 1, 1, 1)
        drawn = compose(window, shapes.outlines[skip:].clamp(-REACH, REACH), self.scale, shapes.colors[skip:])
        if bool(fits.all()):
            return drawn
        outlines = self.outlines(coverage[skip:], missing[skip:])
        free = compose(window, outlines.clamp(-REACH, REACH), self.scale)
        return torch.where(fits.unsqueeze(1), drawn, free)


def save_upscaler(upscaler: Upscaler, path: Path) -> None:
    """Write the weights in half precision, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in upscaler.state_dict().items()}, path)
    path.chmod(0o644)


def load_upscaler(path: Path, device: torch.device | str = "cpu", *, scale: int = 4, pace: int = 2) -> Upscaler:
    """Read the weights, to compute in float32.

    Raises OSError where there are none, ValueError where they are another network's.
    """
    upscaler = Upscaler(scale, pace)
    try:
        upscaler.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except RuntimeError as error:
        raise ValueError(f"{path} has no weights of an upscaler to {scale} times the size: {error}") from error
    upscaler.eval().requires_grad_(False)
    return upscaler.to(device=device, memory_format=torch.channels_last)


def deliver(
    upscaler: Upscaler | None,
    selection: FrameSelection,
    pictures: Iterator[Tensor],
    check: Callable[[], None],
    *,
    first: int,
    frames: int,
    pace: int,
    aspect: float,
) -> Iterator[Tensor]:
    """Yield the delivered frames of a render as uint8 chunks: those selected, drawn large where there is an upscaler.

    See `draw_frames`. The selection keeps the native floats that the next segment continues from, with either.
    """
    if upscaler is None:
        return selection.select(pictures, check)
    native = selection.keep_context(pictures)
    return draw_frames(upscaler, native, first=first, frames=frames, pace=pace, aspect=aspect, check=check)


@torch.no_grad()
def draw_frames(
    upscaler: Upscaler,
    pieces: Iterator[Tensor],
    *,
    first: int,
    frames: int,
    pace: int,
    aspect: float = 1.0,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Yield exactly `frames` large frames as uint8 chunks [f, scale H, scale W, 3].

    `pieces` are native pictures [f, H, W, 3] in 0..1 in order, of which at most a piece and three more are held. The
    first drawn frame is native frame `first`; those before it are only looked at. `pace` frames are drawn for each
    native frame, as many as the network draws or fewer: with 1, nothing is drawn between. Native pixels are shown
    `aspect` times as wide as high. `check` is called for each piece. Raises ValueError where the pieces end too early.
    """
    left, position = frames, 0
    tracker = Tracker(upscaler.path, aspect)
    for windows, missing in _windows(pieces):
        check()
        skip = min(max(first - position, 0), len(windows))
        position += len(windows)
        if left > 0:
            large = upscaler(windows, missing, tracker, skip)[:, :pace].flatten(0, 1)[:left]  # [f, 3, scale H, scale W]
            left -= len(large)
            yield to_bytes((large * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1))
    if left > 0:
        raise ValueError(f"the clip ended {left} frames too early")


def _windows(pieces: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the windows [B, 4, 3, H, W] in -1..1 of all frames, and which of their frames are missing.

    `pieces` are native pictures [f, H, W, 3] in 0..1.
    """
    window_frames: list[Tensor] = []  # The frames from `base` on, each [3, H, W].
    base, center = 0, 0
    for piece in pieces:
        window_frames += (piece * 2 - 1).permute(0, 3, 1, 2).unbind()
        ready = range(center, base + len(window_frames) - AFTER)
        if ready:
            windows = [torch.stack(_around(window_frames, base, index)) for index in ready]
            yield torch.stack(windows), windows[0].new_zeros(len(windows), AFTER)
            center = ready.stop
        surplus = max(0, min(center - BEFORE - base, len(window_frames)))
        window_frames, base = window_frames[surplus:], base + surplus
    count = base + len(window_frames)
    if center < count:
        rest = range(center, count)
        beyond = [[float(index + step >= count) for step in range(1, AFTER + 1)] for index in rest]
        windows = [torch.stack(_around(window_frames, base, index)) for index in rest]
        yield torch.stack(windows), windows[0].new_tensor(beyond)


def _around(window_frames: list[Tensor], base: int, center: int) -> list[Tensor]:
    """The four frames around one; beyond the ends the first or last frame is repeated."""
    indices = range(center - BEFORE - base, center + AFTER + 1 - base)
    return [window_frames[min(max(index, 0), len(window_frames) - 1)] for index in indices]
