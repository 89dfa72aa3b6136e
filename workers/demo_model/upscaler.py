"""The upscaler: decoded clips at native size and rate become clips of four times the sides and twice the frames.

A small U-Net looks at four neighbouring frames at native size and draws two large ones: the second of the four, and
the one half-way to the third. Where the clip ends it draws the half-way frame from the past alone.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from workers.demo_model.parts import WEIGHTS

SCALE = 4
"""Pixels drawn per native pixel, along one side."""

PACE = 2
"""Frames drawn per native frame."""

BEFORE, AFTER = 1, 2
"""Native frames that the network sees before and after the one that it draws."""

WINDOW = BEFORE + 1 + AFTER
UPSCALER_WEIGHTS = WEIGHTS / "upscaler" / "model.safetensors"

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
    """Draws two frames [B, 2, 3, 4H, 4W] from a window of four [B, 4, 3, H, W], all in -1..1; H and W divide by 4.

    `missing` [B, 2] is 1 where the third or the fourth frame of a window lies beyond the clip's end; these frames
    repeat the clip's last one. A window that begins before the clip repeats the clip's first one.
    """

    def __init__(self, widths: tuple[int, int, int] = _WIDTHS) -> None:
        super().__init__()
        fine, middle, coarse = widths
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
        self.color = nn.Conv2d(fine, 3 * PACE, 1)
        self.detail = nn.Conv2d(fine, 64, 3, padding=1)
        self.conv_out = nn.Conv2d(16, 3 * PACE * 4, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.color.weight)
        for layer in (self.conv_out, self.color):
            assert layer.bias is not None
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
        base = torch.cat([now, (now + following) / 2], dim=1) + self.color(fine)
        large = functional.interpolate(base, scale_factor=float(SCALE), mode="bilinear")
        detail = functional.relu(functional.pixel_shuffle(self.detail(fine), 2))
        large = large + functional.pixel_shuffle(self.conv_out(detail), 2)
        return large.view(batch, PACE, 3, SCALE * height, SCALE * width)


def save_upscaler(upscaler: Upscaler, path: Path = UPSCALER_WEIGHTS) -> None:
    """Write the weights in half precision, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in upscaler.state_dict().items()}, path)
    path.chmod(0o644)


def load_upscaler(path: Path = UPSCALER_WEIGHTS, device: str | torch.device = "cpu") -> Upscaler:
    """Read the weights, computing in float32 as the rest of the demo model. Raises FileNotFoundError without them."""
    upscaler = Upscaler()
    upscaler.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    upscaler.eval().requires_grad_(False)
    return upscaler.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def upscaled(upscaler: Upscaler, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield large pieces [2f, 4H, 4W, 3] in 0..1 from native pieces [f, H, W, 3] in 0..1, two large frames for each.

    At most four native frames wait inside, whatever the length of the clip. The large frames 2k show the native
    frames k; a large frame 2k + 1 lies half a native frame later.
    """
    waiting: deque[Tensor] = deque(maxlen=WINDOW)  # each [3, H, W] in -1..1
    for piece in pieces:
        windows = []
        for picture in (piece * 2 - 1).permute(0, 3, 1, 2):
            if not waiting:
                waiting.extend([picture] * BEFORE)
            waiting.append(picture)
            if len(waiting) == WINDOW:
                windows.append(torch.stack(tuple(waiting)))
        if windows:
            yield _draw(upscaler, torch.stack(windows), 0)
    begun_with = len(waiting) - BEFORE  # frames seen, where they are fewer than a window
    if begun_with < 1:
        return
    for missing in range(max(1, AFTER + 1 - begun_with), AFTER + 1):
        waiting.append(waiting[-1])
        if len(waiting) == WINDOW:
            yield _draw(upscaler, torch.stack(tuple(waiting))[None], missing)


def _draw(upscaler: Upscaler, windows: Tensor, missing: int) -> Tensor:
    """Large frames [2B, 4H, 4W, 3] in 0..1 of windows [B, 4, 3, H, W] whose last `missing` frames only repeat."""
    beyond = torch.tensor([float(missing >= AFTER - index) for index in range(AFTER)], device=windows.device)
    large = upscaler(windows, beyond.expand(len(windows), -1))
    return (large.flatten(0, 1) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
