"""Re-encode a customer's picture from its pixels. Runs in the confined process only."""

import io
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageOps

from app.assets.limits import AssetLimits, RefusedError


def rewrite_picture(path: Path, folder: Path, reader: str, limits: AssetLimits) -> dict[str, Any]:
    """Re-encode the picture as a PNG without metadata: upright, sRGB, opaque. Returns its facts.

    Raises RefusedError for one that is too large, too small, or an animation; OSError and ValueError for a damaged one.
    """
    # Pillow only warns about decompression bombs up to twice its limit; here a warning is an error.
    warnings.simplefilter("error")
    Image.MAX_IMAGE_PIXELS = limits.pixels_max
    try:
        # Only one format: otherwise Pillow could detect PostScript and run Ghostscript.
        with Image.open(path, formats=[reader]) as picture:
            _check_header(picture, limits)
            # JPEG decodes much faster at a half, a quarter or an eighth of its size.
            picture.draft("RGB", (limits.kept_side_max, limits.kept_side_max))
            picture.load()
            upright = _upright_rgb(picture, limits.kept_side_max)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise RefusedError(f"it has more than {limits.pixels_max:,} pixels") from error
    except Warning as warning:
        raise RefusedError("it is damaged") from warning
    except SyntaxError as error:
        # Pillow raises this for a broken PNG chunk.
        raise RefusedError("it is damaged") from error
    out = folder / "picture.png"
    upright.save(out, format="PNG", compress_level=3)
    return {"file": out.name, "kind": "picture", "width": upright.width, "height": upright.height, "frames": 1}


def _check_header(picture: Image.Image, limits: AssetLimits) -> None:
    width, height = picture.size
    if width * height > limits.pixels_max or max(width, height) > limits.side_max:
        allowed = f"at most {limits.side_max} on a side and {limits.pixels_max:,} in all are allowed"
        raise RefusedError(f"it has {width}x{height} pixels; {allowed}")
    if min(width, height) < limits.side_min:
        raise RefusedError(f"it has {width}x{height} pixels; at least {limits.side_min} on a side are needed")
    # Phones append a second picture to a JPEG (MPO); the first is the photo.
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise RefusedError("it is an animation; send one picture, or a clip")


def _upright_rgb(picture: Image.Image, side_max: int) -> Image.Image:
    """Return an equivalent picture without metadata: colours in sRGB, transparency on black."""
    profile = picture.info.get("icc_profile")
    ImageOps.exif_transpose(picture, in_place=True)
    picture.thumbnail((side_max, side_max), Image.Resampling.LANCZOS, reducing_gap=None)
    if picture.mode.startswith("I"):
        # 16-bit grey; Pillow's own conversion would clip it to white.
        picture = picture.point(lambda value: value / 257).convert("L")
    if profile and picture.mode in ("RGB", "L", "CMYK"):
        picture = _to_srgb(picture, profile)
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layers.size, (0, 0, 0, 255)), layers)
    plain = Image.new("RGB", picture.size)
    plain.paste(picture.convert("RGB"))
    return plain


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:
        return picture  # The pixels are usable without a broken profile.
    return converted or picture
