"""The upscaler: what a small model decodes becomes larger pictures and more of them, drawn by a network of its own.

A U-Net looks at four neighbouring frames at native size and draws the second of them large, and what lies between it
and the third. Where the clip ends it draws the frames between from the past alone.
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

_WIDTHS = (32, 56, 96)


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

    H and W divide by four, `scale` by two. The first drawn frame is the window's second one, the others follow it at
    equal distances, before the third. `missing` [B, 2] is 1 where the window's third or fourth frame lies beyond the
    clip's end; it then repeats the clip's last one. A window at the clip's beginning repeats the first one.
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
        self.coarse = nn.Sequential(*(_Residual(coarse) for _ in range(3)))
        self.up_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_out = _Residual(middle)
        self.up_fine = nn.Conv2d(middle, fine, 1)
        self.fine_out = _Residual(fine)
        self.color = nn.Conv2d(fine, 3 * pace, 1)
        self.detail = nn.Conv2d(fine, 64, 3, padding=1)
        self.conv_out = nn.Conv2d(16, 3 * pace * (scale // 2) ** 2, 3, padding=1)
        for layer in (self.conv_out, self.color):  # It begins as a plain enlargement.
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, window: Tensor, missing: Tensor) -> Tensor:
        batch, _, _, height, width = window.shape
        planes = missing.to(window)[:, :, None, None].expand(-1, -1, height, width)
        seen = torch.cat([window.flatten(1, 2), planes], dim=1).contiguous(memory_format=torch.channels_last)
        fine = self.fine_in(self.conv_in(seen))
        middle = self.middle_in(self.down_middle(functional.relu(fine)))
        coarse = self.coarse(self.down_coarse(functional.relu(middle)))
        middle = middle + functional.interpolate(self.up_middle(coarse), scale_factor=2.0, mode="nearest")
        middle = self.middle_out(middle)
        fine = fine + functional.interpolate(self.up_fine(middle), scale_factor=2.0, mode="nearest")
        fine = functional.relu(self.fine_out(fine))
        now, following = window[:, BEFORE], window[:, BEFORE + 1]
        blends = [torch.lerp(now, following, index / self.pace) for index in range(self.pace)]
        base = torch.cat(blends, dim=1) + self.color(fine)
        large = functional.interpolate(base, scale_factor=float(self.scale), mode="bilinear")
        detail = functional.relu(functional.pixel_shuffle(self.detail(fine), 2))
        large = large + functional.pixel_shuffle(self.conv_out(detail), self.scale // 2)
        return large.view(batch, self.pace, 3, self.scale * height, self.scale * width)


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
