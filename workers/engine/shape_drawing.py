"""Drawing flat shapes: how much of each point is an object, and large pictures along the outlines of objects."""

import torch
from torch import Tensor
from torch.nn import functional

BEFORE, AFTER = 1, 2
"""Native frames that the network sees before and after the one that it draws."""

WINDOW = BEFORE + 1 + AFTER

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

STRAY = 5e-4
"""Weight of the other half's object beside a half's own: enough where that half shows nothing but noise."""


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
        mass = torch.cat([part * heavy, heavy], dim=2).sum((1, 3, 4), keepdim=True) + STRAY * whole
        way = mass[:, :, :3] / mass[:, :, 3:].clamp_min(1e-6)  # [B, 1, 3, 1, 1]: from the background to the object
        covers.append((part * way).sum(2) / way.square().sum(2).clamp_min(0.02))
    return torch.cat(covers, axis).clamp(-0.5, 1.5)


def compose(window: Tensor, outlines: Tensor, scale: int, colors: Tensor | None = None) -> Tensor:
    """Draw the frames [B, pace, 3, scale H, scale W] of windows [B, 4, 3, H, W] along their outlines; see Upscaler.

    With `colors` [B, 3, H, W] the outlines are filled with these, and nothing is drawn but flat colours.
    """
    pace = outlines.shape[1] - 1
    seen = window[:, BEFORE : BEFORE + 2]  # [B, 2, 3, H, W]
    small = functional.avg_pool2d(outlines, OUTLINE_SCALE)
    distance = small[:, [0, pace]].unsqueeze(2)  # [B, 2, 1, H, W]: the second and the third frame's
    back = _background(seen, distance)  # [B, 3, H, W]
    front = _foreground(seen, distance) if colors is None else colors
    flat = torch.lerp(back.unsqueeze(1), front.unsqueeze(1), (0.5 - distance / EDGE).clamp(0, 1))
    tints = _enlarged(torch.cat([back, front - back], dim=1), scale).unsqueeze(1)
    field = functional.interpolate(outlines[:, :pace], scale_factor=scale / OUTLINE_SCALE, mode="bilinear")
    cover = (0.5 - field * (scale / EDGE)).clamp(0, 1).unsqueeze(2)  # [B, pace, 1, scale H, scale W]
    drawn = torch.addcmul(tints[:, :, :3], cover, tints[:, :, 3:])
    rest = _unexplained(seen - flat, distance) if colors is None else None
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
