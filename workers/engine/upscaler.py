"""The upscaler: what a small model decodes becomes larger pictures and more of them, with edges drawn anew.

A small U-Net looks at how much of each point of four neighbouring frames is an object, and says how far each point lies
outside the objects' outlines (a signed distance, which is smooth and so can be enlarged), at the second frame's time,
at times between it and the third, and at the third's. Colours come from the frames themselves: what lies well inside an
outline and what lies well outside it. Where the net sees no outline, as in a photograph, the decoded picture stays.
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

NOISE, ALIKE = 0.1, 0.2
"""What a frame's flat parts stray from their colour, and what two colours differ at least; of a range of 2."""

SPOTS = 0.015
"""Share of a picture that may show something other than flat colours and be left out."""

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

    def forward(self, window: Tensor, missing: Tensor) -> Tensor:
        return compose(window, self.outlines(coverage_of(window), missing), self.scale)


def coverage_of(window: Tensor) -> Tensor:
    """How much of each point is an object's colour and not the background's, about 0 to 1: [B, 4, H, W].

    `window` is [B, 4, 3, H, W]. The background is the border's median colour; an object's is what differs most from it,
    in either half of the longer side, because two objects never share one. Whatever their colours are, objects then
    look alike to the network.
    """
    rim = 2
    rows = torch.cat([window[..., :rim, :], window[..., -rim:, :]], dim=-2).flatten(3)
    columns = torch.cat([window[..., :rim], window[..., -rim:]], dim=-1).flatten(3)
    border = torch.cat([rows, columns], dim=-1).transpose(1, 2).flatten(2)  # [B, 3, points]
    apart = window - border.median(dim=-1).values[:, None, :, None, None]
    weight = apart.square().sum(2, keepdim=True).square()  # [B, 4, 1, H, W]
    axis = -1 if window.shape[-1] >= window.shape[-2] else -2
    whole = torch.cat([apart * weight, weight], dim=2).sum((1, 3, 4), keepdim=True)
    covers = []
    for part, heavy in zip(apart.chunk(2, axis), weight.chunk(2, axis), strict=True):
        mass = torch.cat([part * heavy, heavy], dim=2).sum((1, 3, 4), keepdim=True) + 0.02 * whole
        way = mass[:, :, :3] / mass[:, :, 3:].clamp_min(1e-6)  # [B, 1, 3, 1, 1]: from the background to the object
        covers.append((part * way).sum(2) / way.square().sum(2).clamp_min(0.02))
    return torch.cat(covers, axis).clamp(-0.5, 1.5)


def compose(window: Tensor, outlines: Tensor, scale: int) -> Tensor:
    """Draw the frames [B, pace, 3, scale H, scale W] of a window [B, 4, 3, H, W] along their outlines; see Upscaler."""
    pace = outlines.shape[1] - 1
    seen = window[:, BEFORE : BEFORE + 2]  # [B, 2, 3, H, W]
    small = functional.avg_pool2d(outlines, OUTLINE_SCALE)
    distance = small[:, [0, pace]].unsqueeze(2)  # [B, 2, 1, H, W]: the second and the third frame's
    back, front = _background(seen, distance), _foreground(seen, distance)  # [B, 3, H, W]
    flat = torch.lerp(back.unsqueeze(1), front.unsqueeze(1), (0.5 - distance / EDGE).clamp(0, 1))
    colors = _enlarged(torch.cat([back, front - back], dim=1), scale).unsqueeze(1)
    field = functional.interpolate(outlines[:, :pace], scale_factor=scale / OUTLINE_SCALE, mode="bilinear")
    cover = (0.5 - field * (scale / EDGE)).clamp(0, 1).unsqueeze(2)  # [B, pace, 1, scale H, scale W]
    drawn = torch.addcmul(colors[:, :, :3], cover, colors[:, :, 3:])
    rest = _unexplained(seen - flat, distance)
    if rest is not None:
        shares = torch.arange(pace, device=rest.device).view(1, -1, 1, 1, 1) / pace
        between = torch.lerp(rest[:, :1], rest[:, 1:], shares.to(rest))
        drawn = drawn + _enlarged(between.flatten(0, 1), scale).view_as(drawn)
    return drawn


def _enlarged(pictures: Tensor, scale: int) -> Tensor:
    """Pictures [B, C, H, W] at `scale` times the size."""
    return functional.interpolate(pictures, scale_factor=float(scale), mode="bilinear")


def _background(seen: Tensor, distance: Tensor) -> Tensor:
    """The colour [B, 3, H, W] behind the outlines of frames [B, 2, 3, H, W]: a wide average, free of noise."""
    weight = (distance - SURE).clamp(0, 1) + 1e-4
    mean = _mean(seen, weight)
    mass = torch.cat([seen * weight, weight], dim=2) * _trust(seen, mean)
    wide = functional.avg_pool2d(mass.sum(1), 4)
    for _ in range(2):
        wide = functional.avg_pool2d(wide, 5, stride=1, padding=2)
    mean = mean.flatten(1, 2)
    wide = (wide[:, :3] + 1e-3 * mean) / (wide[:, 3:] + 1e-3)
    return _enlarged(wide, 4)


def _foreground(seen: Tensor, distance: Tensor) -> Tensor:
    """The colour [B, 3, H, W] within the outlines of frames [B, 2, 3, H, W]: one for each half, or one for both.

    Two objects never share a half of the picture's longer side. Halves whose colours are nearly alike show one object.
    """
    weight = (-distance - SURE).clamp(0, 1) + 1e-3 * (distance < 0) + 1e-6
    axis = -1 if seen.shape[-1] >= seen.shape[-2] else -2
    whole = _robust_mean(seen, weight)
    halves = [
        _robust_mean(frames, heavy, whole)
        for frames, heavy in zip(seen.chunk(2, axis), weight.chunk(2, axis), strict=True)
    ]
    apart = (((halves[0] - halves[1]).abs().amax(2, keepdim=True) - ALIKE) / NOISE).clamp(0, 1)
    sides = [
        torch.lerp(whole, half, apart).expand_as(frames[:, :1])[:, 0]
        for half, frames in zip(halves, seen.chunk(2, axis), strict=True)
    ]
    return torch.cat(sides, axis)


def _mean(seen: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean colour [B, 1, 3, 1, 1] of frames [B, 2, 3, H, W]."""
    return (seen * weight).sum((1, 3, 4), keepdim=True) / weight.sum((1, 3, 4), keepdim=True)


def _trust(seen: Tensor, mean: Tensor) -> Tensor:
    """Little for points whose colour is far from the mean, [B, 2, 1, H, W]: they lie there by a mistake."""
    return 1 / (1 + ((seen - mean).abs().amax(2, keepdim=True) / ALIKE) ** 4)


def _robust_mean(seen: Tensor, weight: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """The mean colour [B, 1, 3, 1, 1] without points far from it; `otherwise` counts like one point."""
    mean = _mean(seen, weight)
    weight = weight * _trust(seen, mean)
    if otherwise is None:
        return _mean(seen, weight)
    total = (seen * weight).sum((1, 3, 4), keepdim=True) + otherwise
    return total / (weight.sum((1, 3, 4), keepdim=True) + 1)


def _unexplained(rest: Tensor, distance: Tensor) -> Tensor | None:
    """What frames show beside flat colours, [B, 2, 3, H, W], or None for clips of nothing but flat shapes.

    Faint differences are the codec's noise, those near an outline its softness, and small spots a mistake of either.
    """
    size = rest.abs()
    rest = rest * ((size - NOISE) / NOISE).clamp(0, 1) * (distance.abs() > 2 * SURE)
    share = ((rest.abs() > NOISE).amax(2, keepdim=True)).float().mean((1, 3, 4), keepdim=True)
    if not bool((share > SPOTS).any()):
        return None
    return rest * ((share - SPOTS) / SPOTS).clamp(0, 1)


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
