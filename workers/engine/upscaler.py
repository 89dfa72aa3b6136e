"""The upscaler: what a small model decodes becomes larger pictures and more of them, with edges drawn anew.

A small U-Net looks at four neighbouring frames and says how far each point lies outside the outline of what moves
there (a signed distance, which is smooth and so can be enlarged), at the second frame's time, at times between it and
the third, and at the third's. Colours come from the frames themselves: what lies well inside an outline and what lies
well outside it. Where the net sees no outline, as in a photograph, the decoded picture stays what it is.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from workers.engine.decode import FrameSelection, to_bytes

BEFORE, AFTER = 1, 2
"""Native frames that the network sees before and after the one that it draws."""

WINDOW = BEFORE + 1 + AFTER
FILE = Path("upscaler") / "model.safetensors"
"""Where the weights lie in the folder of a model's weights."""

REACH = 4.0
"""Distances beyond so many native pixels are all alike."""

OUTLINE_SCALE = 2
"""Distances per native pixel, along one side."""

EDGE = 1.4
"""Width of a drawn edge, in drawn pixels."""

SURE = 1.5
"""A point farther than so many native pixels from an outline shows one colour unmixed."""

NOISE = 0.1
"""What a frame's flat parts may stray from their neighbourhood's colour and be smoothed away, of a range of 2."""

_WIDTHS = (24, 40, 64)


class _Residual(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

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
        self.conv_in = nn.Conv2d(3 * WINDOW + AFTER, fine, 3, padding=1)
        self.fine_in = _Residual(fine)
        self.down_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle_in = _Residual(middle)
        self.down_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(*(_Residual(coarse) for _ in range(4)))
        self.up_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_out = _Residual(middle)
        self.up_fine = nn.Conv2d(middle, fine, 1)
        self.fine_out = _Residual(fine)
        self.conv_out = nn.Conv2d(fine, (pace + 1) * OUTLINE_SCALE**2, 3, padding=1)

    def outlines(self, window: Tensor, missing: Tensor) -> Tensor:
        """Signed distances in native pixels, negative inside, [B, pace + 1, 2H, 2W]; the last is the third frame's."""
        height, width = window.shape[-2:]
        planes = missing.to(window)[:, :, None, None].expand(-1, -1, height, width)
        seen = torch.cat([window.flatten(1, 2), planes], dim=1).contiguous(memory_format=torch.channels_last)
        fine = self.fine_in(self.conv_in(seen))
        middle = self.middle_in(self.down_middle(functional.relu(fine)))
        coarse = self.coarse(self.down_coarse(functional.relu(middle)))
        middle = middle + functional.interpolate(self.up_middle(coarse), scale_factor=2.0, mode="nearest")
        middle = self.middle_out(middle)
        fine = fine + functional.interpolate(self.up_fine(middle), scale_factor=2.0, mode="nearest")
        fine = functional.relu(self.fine_out(fine))
        return functional.pixel_shuffle(self.conv_out(fine), OUTLINE_SCALE)

    def forward(self, window: Tensor, missing: Tensor) -> Tensor:
        return compose(window, self.outlines(window, missing), self.scale)


def compose(window: Tensor, outlines: Tensor, scale: int) -> Tensor:
    """Draw the frames [B, pace, 3, scale H, scale W] of a window [B, 4, 3, H, W] along their outlines; see Upscaler."""
    pace = outlines.shape[1] - 1
    seen = window[:, BEFORE : BEFORE + 2]  # [B, 2, 3, H, W]
    small = functional.avg_pool2d(outlines, OUTLINE_SCALE)
    distance = small[:, [0, pace]].unsqueeze(2)  # [B, 2, 1, H, W]: the second and the third frame's
    back = _colors(seen, (distance - SURE).clamp(0, 1))  # [B, 3, H, W]
    front = _colors(seen, (-distance - SURE).clamp(0, 1))
    flat = back.unsqueeze(1) + (0.5 - distance / EDGE).clamp(0, 1) * (front - back).unsqueeze(1)
    rest = (seen - flat) * (distance.abs() > 2 * SURE)
    rest = rest.sign() * (rest.abs() - NOISE).clamp_min(0)  # [B, 2, 3, H, W]: what is in the frames and no flat colour
    back, front = _enlarged(back, scale), _enlarged(front, scale)
    field = functional.interpolate(outlines[:, :pace], scale_factor=scale / OUTLINE_SCALE, mode="bilinear")
    cover = (0.5 - field * (scale / EDGE)).clamp(0, 1).unsqueeze(2)  # [B, pace, 1, scale H, scale W]
    drawn = torch.addcmul(back.unsqueeze(1), cover, (front - back).unsqueeze(1))
    if bool(rest.any()):
        shares = torch.arange(pace, device=rest.device).view(1, -1, 1, 1, 1) / pace
        between = torch.lerp(rest[:, :1], rest[:, 1:], shares.to(rest))
        drawn = drawn + _enlarged(between.flatten(0, 1), scale).view_as(drawn)
    return drawn


def _enlarged(pictures: Tensor, scale: int) -> Tensor:
    """Pictures [B, C, H, W] at `scale` times the size."""
    return functional.interpolate(pictures, scale_factor=float(scale), mode="bilinear")


def _colors(seen: Tensor, weight: Tensor) -> Tensor:
    """The colour [B, 3, H, W] around each point of what `weight` [B, 2, 1, H, W] covers in frames [B, 2, 3, H, W].

    It is that of a wide neighbourhood, which is free of noise, where the nearest points agree with it; else theirs.
    """
    mass = torch.cat([seen * weight, weight], dim=2).sum(1)  # [B, 4, H, W]
    mean = mass.sum((-2, -1), keepdim=True)
    mean = torch.cat([mean[:, :3] / mean[:, 3:].clamp_min(1e-6), torch.ones_like(mean[:, 3:])], dim=1)
    wide = functional.avg_pool2d(mass, 4)
    wide = _blurred(wide, 5) + 1e-3 * mean
    wide = functional.interpolate(wide[:, :3] / wide[:, 3:], scale_factor=4.0, mode="bilinear")
    near = _blurred(mass, 3)
    near = (near[:, :3] + 1e-2 * wide) / (near[:, 3:] + 1e-2)
    differs = ((near - wide).abs().amax(1, keepdim=True) / NOISE - 1).clamp(0, 1)
    return torch.lerp(wide, near, differs)


def _blurred(pictures: Tensor, side: int) -> Tensor:
    """Pictures averaged twice over squares of `side` pixels; beyond the border lies zero."""
    for _ in range(2):
        pictures = functional.avg_pool2d(pictures, side, stride=1, padding=side // 2)
    return pictures


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
    *,
    first: int,
    frames: int,
    pace: int,
    check: Callable[[], None],
) -> Iterator[Tensor]:
    """Yield the delivered frames of a render as uint8 chunks: those selected, drawn large where there is an upscaler.

    See `draw_frames`. The selection keeps the native floats that the next segment is shown, with either.
    """
    if upscaler is None:
        return selection.take(pictures, check)
    native = selection.watch(pictures)
    return draw_frames(upscaler, native, first=first, frames=frames, pace=pace, check=check)


@torch.no_grad()
def draw_frames(
    upscaler: Upscaler,
    pieces: Iterator[Tensor],
    *,
    first: int,
    frames: int,
    pace: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Yield exactly `frames` large frames as uint8 chunks [f, scale H, scale W, 3].

    `pieces` are native pictures [f, H, W, 3] in 0..1 in order, of which at most a piece and three more are held. The
    first drawn frame is native frame `first`; those before it are only looked at. `pace` frames are drawn for each
    native frame, as many as the network draws or fewer: with 1, nothing is drawn between. `check` is called for each
    piece. Raises ValueError where the pieces end too early.
    """
    left = frames
    for windows, missing in _windows(pieces, first):
        check()
        if left > 0:
            large = upscaler(windows, missing)[:, :pace].flatten(0, 1)[:left]  # [f, 3, scale H, scale W]
            left -= len(large)
            yield to_bytes((large * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1))
    if left > 0:
        raise ValueError(f"the clip ended {left} frames too early")


def _windows(pieces: Iterator[Tensor], first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the windows [B, 4, 3, H, W] in -1..1 of all frames from `first` on, and which of their frames are missing.

    `pieces` are native pictures [f, H, W, 3] in 0..1.
    """
    held: list[Tensor] = []  # The frames from `base` on, each [3, H, W].
    base, center = 0, first
    for piece in pieces:
        held += (piece * 2 - 1).permute(0, 3, 1, 2).unbind()
        ready = range(center, base + len(held) - AFTER)
        if ready:
            windows = [torch.stack(_around(held, base, index)) for index in ready]
            yield torch.stack(windows), windows[0].new_zeros(len(windows), AFTER)
            center = ready.stop
        surplus = max(0, min(center - BEFORE - base, len(held)))
        held, base = held[surplus:], base + surplus
    count = base + len(held)
    if center < count:
        rest = range(center, count)
        beyond = [[float(index + step >= count) for step in range(1, AFTER + 1)] for index in rest]
        windows = [torch.stack(_around(held, base, index)) for index in rest]
        yield torch.stack(windows), windows[0].new_tensor(beyond)


def _around(held: list[Tensor], base: int, center: int) -> list[Tensor]:
    """The four frames around one; beyond the ends of what is held the end's frame stands again."""
    indices = range(center - BEFORE - base, center + AFTER + 1 - base)
    return [held[min(max(index, 0), len(held) - 1)] for index in indices]
