"""Sizes: the sold ones are exact, another is refused with the nearest."""

import re

import pytest

from app.catalog.sizes import RESOLUTIONS, SIZES, Size, nearest_size, resolve_size
from app.errors import AppError
from pricing import rate_key

SOLD = (
    "832x480 480x832 624x624 704x528 528x704 1280x720 720x1280 960x960 1088x832 832x1088 "
    "1920x1080 1080x1920 1440x1440 1632x1248 1248x1632"
)


def test_the_sold_sizes_are_those_of_the_design() -> None:
    assert " ".join(size.name for size in SIZES) == SOLD


def test_every_sold_resolution_can_be_priced() -> None:
    assert RESOLUTIONS == rate_key.RESOLUTIONS, (
        "app/catalog/sizes.toml and RESOLUTIONS in pricing/rate_key.py must name the same resolutions in the same "
        "order: a resolution that only one of them has cannot be ordered, or has no price."
    )
    assert all(re.fullmatch(r"\d+P", name) for name in RESOLUTIONS), (
        "DashScope's usage shows the number of lines: 2160P"
    )


def test_the_default_is_720p_wide() -> None:
    assert resolve_size(None, None, None) == Size("720P", "16:9", 1280, 720)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_every_size_is_found_by_pixels_and_by_class(size: Size) -> None:
    assert resolve_size(size.name, None, None) == size
    assert resolve_size(size.name.replace("x", "*"), None, None) == size
    assert resolve_size(None, size.resolution.lower(), size.ratio) == size
    assert resolve_size(size.name, size.resolution, size.ratio) == size


@pytest.mark.parametrize(
    ("size", "nearest"),
    [("1280x704", "1280x720"), ("1024x1024", "960x960"), ("600x600", "624x624"), ("99999x99999", "1440x1440")],
)
def test_another_size_is_refused_with_the_nearest(size: str, nearest: str) -> None:
    with pytest.raises(AppError) as refusal:
        resolve_size(size, None, None)
    assert refusal.value.code == "unsupported_size"
    assert refusal.value.field == "size"
    assert refusal.value.facts["nearest"] == nearest
    assert "1920x1080" in refusal.value.facts["allowed"]


@pytest.mark.parametrize("text", ["", "x", "1280", "1280x", "0x720", "-1x5", "1x2x3", "１２８x720", "9" * 50])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(AppError) as refusal:
        resolve_size(text, None, None)
    assert refusal.value.code == "unsupported_size"


def test_unknown_resolution_and_ratio_name_the_allowed_ones() -> None:
    for arguments, field in (((None, "8K", None), "resolution"), ((None, None, "21:9"), "ratio")):
        with pytest.raises(AppError) as refusal:
            resolve_size(*arguments)
        assert (refusal.value.code, refusal.value.field) == ("unsupported_size", field)
        assert refusal.value.facts["allowed"]


def test_a_contradiction_is_refused() -> None:
    for resolution, ratio, field in (("480P", None, "resolution"), (None, "1:1", "ratio")):
        with pytest.raises(AppError) as refusal:
            resolve_size("1280x720", resolution, ratio)
        assert (refusal.value.code, refusal.value.field) == ("invalid_request", field)


def test_nearest_treats_double_and_half_alike() -> None:
    assert nearest_size(640, 360).name == "832x480"
