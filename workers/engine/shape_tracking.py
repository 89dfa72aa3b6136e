"""Shapes in motion: where a circle, square or triangle is in decoded frames, where it is between them, and its outline.

An object's place and size are the moments of its coverage, which a decoder's soft and wavy edges hardly move. Which
shape it is shows in higher moments, averaged over the frames so far. A small network that has seen many paths smooths
the places of four frames and finds those between them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

REGIONS = 3
"""Where an object is looked for: the whole picture, and either half of its longer side. Two objects share no half."""

SQUARE_FOURTH, TRIANGLE_THIRD = -1 / 60, 0.0675
"""Moments of an upright square (fourth) and triangle (third), over powers of the area; a circle's are zero."""

COVERED, CORE_POINTS = 0.15, 12.0
"""Coverage below the first is noise; an object has at least so many points that are covered all round."""

MARGIN = 5
"""An object reaches at most so many points beyond those that are covered all round."""

FIT = 0.3
"""Share of an object's area that may lie on the wrong side of an outline that is taken for its own."""

TWO_COLORS = 0.25
"""What the colours of two objects differ at least, of a range of 2."""

UNIT = 8.0
"""The path network counts in so many pixels."""


class PathNet(nn.Module):
    """From one coordinate at four frames to the same, smoothed, at times from the second frame to the third."""

    def __init__(self, pace: int, width: int = 48) -> None:
        super().__init__()
        self.pace = pace
        self.layers = nn.Sequential(
            nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, pace + 1)
        )

    def forward(self, places: Tensor, missing: Tensor) -> Tensor:
        """Places [N, pace + 1] for places [N, 4]; `missing` [N, 2] marks repeated third and fourth ones."""
        now, following = places[:, 1:2], places[:, 2:3]
        shares = torch.arange(self.pace + 1, device=places.device) / self.pace
        ways = torch.cat([places[:, :1] - now, following - now, places[:, 3:] - following], dim=1) / UNIT
        # A path is as likely as its mirror image.
        bend = self.layers(torch.cat([ways, missing], 1)) - self.layers(torch.cat([-ways, missing], 1))
        return torch.lerp(now, following, shares) + UNIT / 2 * bend


@dataclass(frozen=True)
class Sight:
    """What is seen of objects in a batch of windows, by region.

    center [B, 4, R, 2] (x and y) and radius [B, 4, R] at each frame, in display pixels; of the second frame the moments
    third [B, R, 2] and fourth [B, R], and their weight [B, R]; the sum of inner colours [B, R, 3] and the number of
    inner points [B, R]; whether two objects are seen, [B].
    """

    center: Tensor
    radius: Tensor
    third: Tensor
    fourth: Tensor
    weight: Tensor
    colors: Tensor
    points: Tensor
    two: Tensor


@dataclass(frozen=True)
class Shapes:
    """Shapes that are drawn: outlines [B, pace + 1, h, w] as signed distances, and colours [B, 3, H, W] within them.

    `fits` [B] says whether a window shows such shapes and nothing else.
    """

    outlines: Tensor
    colors: Tensor
    fits: Tensor


def look(window: Tensor, coverage: Tensor, aspect: float) -> Sight:
    """Measure the objects of windows [B, 4, 3, H, W] with coverage [B, 4, H, W]; pixels are `aspect` times as wide."""
    cover, core = _objects(coverage)
    height, width = cover.shape[-2:]
    regions = _regions(height, width, cover)
    x, y = _grid(height, width, 1, aspect, cover)
    sums = torch.einsum("bfhw,rhw->bfrhw", cover, regions)
    area = (sums.sum((3, 4)) * aspect).clamp_min(1e-3)
    center = torch.stack([(sums.sum(3) * x).sum(-1), (sums.sum(4) * y).sum(-1)], -1) * aspect / area[..., None]
    now, size = sums[:, 1], area[:, 1]
    dx, dy = x - center[:, 1, :, None, None, 0], y[:, None] - center[:, 1, :, None, None, 1]
    third = torch.stack([dx**3 - 3 * dx * dy**2, 3 * dx**2 * dy - dy**3], -1)
    third = (now[..., None] * third).sum((2, 3)) * aspect / size[..., None] ** 2.5
    fourth = (now * (dx**4 - 6 * dx**2 * dy**2 + dy**4)).sum((2, 3)) * aspect / size**3
    points = torch.einsum("bhw,rhw->br", core[:, 1], regions)
    weight = size**2 * (points > CORE_POINTS)
    # Edges are mixed colours, and some points within are, too.
    inner = core[:, 1] * (coverage[:, 1] > 0.85)
    inner = torch.where(inner.sum((1, 2), keepdim=True) > CORE_POINTS, inner, core[:, 1])
    pure = torch.einsum("bhw,rhw->br", inner, regions)
    colors = torch.einsum("bchw,bhw,rhw->brc", window[:, 1], inner, regions)
    mean = colors / pure[..., None].clamp_min(1)
    both = (points[:, 1:] > CORE_POINTS).all(1)
    two = (both & ((mean[:, 1] - mean[:, 2]).abs().amax(1) > TWO_COLORS)).to(cover)
    return Sight(center, (area / torch.pi).sqrt(), third, fourth, weight, colors, pure, two)


class Tracker:
    """Keeps what the frames so far say of a clip's objects, so that none changes its shape from frame to frame."""

    def __init__(self, path: PathNet, aspect: float) -> None:
        self.path, self.aspect = path, aspect
        self._past: Tensor | None = None

    def follow(self, window: Tensor, coverage: Tensor, missing: Tensor, per_pixel: int) -> Shapes:
        """The shapes of windows, which come in the order of the clip; `per_pixel` distances per native pixel's side."""
        sight = look(window, coverage, self.aspect)
        batch, _, regions = sight.radius.shape
        places = torch.cat([sight.center, sight.radius[..., None]], -1)  # [B, 4, R, 3]
        flat = places.permute(0, 2, 3, 1).reshape(-1, places.shape[1])
        smooth = self.path(flat, missing.repeat_interleave(regions * 3, 0)).view(batch, regions, 3, -1)
        height, width = coverage.shape[-2:]
        cover, _ = _objects(coverage[:, 1:2])
        own = places[:, 1, :, :, None]  # [B, R, 3, 1]
        drawn = self._distances(own, height, width, 1)
        error = self._errors(cover[:, 0], (0.5 - drawn[..., 0, :, :] / 1.4).clamp(0, 1))  # [B, S, R]
        kind, two, colors, fits = self._decide(sight, error)
        distances = self._distances(smooth, height, width, per_pixel)  # [B, S, R, T, h, w]
        index = kind.view(batch, 1, regions, 1, 1, 1).expand(-1, -1, -1, *distances.shape[3:])
        nearest = distances.gather(1, index)[:, 0]
        outlines = torch.where(two.view(-1, 1, 1, 1), nearest[:, 1:].amin(1), nearest[:, 0])
        halves = torch.einsum("brc,rhw->bchw", colors[:, 1:], _regions(height, width, coverage)[1:])
        front = torch.where(two.view(-1, 1, 1, 1), halves, colors[:, 0, :, None, None])
        return Shapes(outlines, front, fits)

    def _decide(self, sight: Sight, error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What all frames so far say: each region's shape [B, R], whether there are two objects [B], colours, and fit.

        `error` [B, S, R] says how ill each shape fits; colours are [B, R, 3], and whether the shapes fit is [B].
        """
        weight, batch = sight.weight, len(sight.two)
        news = [
            sight.third * weight[..., None],
            sight.fourth * weight,
            weight,
            error * weight[:, None],
            sight.colors,
            sight.points,
            sight.two[:, None],
            torch.ones_like(sight.two)[:, None],
        ]
        sums = torch.cat([each.flatten(1) for each in news], dim=1).cumsum(0)
        sums = sums if self._past is None else sums + self._past
        self._past = sums[-1:]
        parts = sums.split([each[0].numel() for each in news], dim=1)
        third, fourth, mass, errors, colors, points, two, count = (
            part.view(batch, *each.shape[1:]) for part, each in zip(parts, news, strict=True)
        )
        mass = mass.clamp_min(1e-6)
        third = (third / mass[..., None]).norm(dim=-1)
        kind = torch.where(third > TRIANGLE_THIRD / 2, 2, (fourth / mass < SQUARE_FOURTH / 2).long())  # [B, R]
        mean = (errors / mass[:, None]).gather(1, kind[:, None])[:, 0]  # [B, R]
        good = (mean < FIT) & (weight > 0)
        is_two = (two / count)[:, 0] > 0.5
        fits = torch.where(is_two, good[:, 1:].all(1), good[:, 0])
        return kind, is_two, colors / points.clamp_min(1)[..., None], fits

    @staticmethod
    def _errors(cover: Tensor, drawn: Tensor) -> Tensor:
        """How ill drawn coverages [B, S, R, H, W] fit the seen one [B, H, W]: 0 to 1, [B, S, R]."""
        regions = _regions(cover.shape[-2], cover.shape[-1], cover)
        seen = (cover[:, None] * regions)[:, None]
        return (drawn - seen).abs().sum((3, 4)) / (drawn + seen).sum((3, 4)).clamp_min(1)

    def _distances(self, places: Tensor, height: int, width: int, per_pixel: int) -> Tensor:
        """Signed distances [B, S, R, T, h, w] of each shape at places [B, R, 3, T]: x, y, and radius of equal area."""
        x, y = _grid(height, width, per_pixel, self.aspect, places)
        dx = (x - places[:, :, 0, :, None]).unsqueeze(-2)  # [B, R, T, 1, w]
        dy = (y - places[:, :, 1, :, None]).unsqueeze(-1)
        radius = places[:, :, 2, :, None, None]
        circle = (dx.square() + dy.square()).sqrt() - radius
        square = torch.maximum(dx.abs(), dy.abs()) - 0.8862 * radius
        triangle = torch.maximum(dx.abs() * 0.75**0.5 - dy * 0.5, dy) - 0.7776 * radius
        return torch.stack([circle, square, triangle], 1)


def _objects(coverage: Tensor) -> tuple[Tensor, Tensor]:
    """Coverage of objects without noise, and their points that are covered all round (1, else 0): [B, F, H, W] each."""
    core = (-functional.max_pool2d(-coverage, 3, stride=1, padding=1) > 0.5).to(coverage)
    around = functional.max_pool2d(core, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    return coverage.clamp(0, 1) * (coverage > COVERED) * around, core


def _regions(height: int, width: int, like: Tensor) -> Tensor:
    """The regions as masks [R, H, W]."""
    masks = torch.ones(REGIONS, height, width, dtype=like.dtype, device=like.device)
    if width >= height:
        masks[1, :, width // 2 :], masks[2, :, : width // 2] = 0, 0
    else:
        masks[1, height // 2 :], masks[2, : height // 2] = 0, 0
    return masks


def _grid(height: int, width: int, per_pixel: int, aspect: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of points in display pixels: x [w] and y [h]."""
    x = (torch.arange(width * per_pixel, dtype=like.dtype, device=like.device) + 0.5) / per_pixel * aspect
    y = (torch.arange(height * per_pixel, dtype=like.dtype, device=like.device) + 0.5) / per_pixel
    return x, y
