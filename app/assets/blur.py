"""A picture of which nothing can be recognised: what moderators see before they ask for the picture itself."""

import io

from PIL import Image, UnidentifiedImageError

from app.errors import AppError

# The longer side of a blurred picture, in pixels. A page draws it large, and smoothly.
BLURRED_SIDE = 12
PICTURE_BYTES_MAX = 64 * 1024 * 1024


def blur_picture(content: bytes) -> bytes:
    """Return a picture of an asset as a PNG of at most BLURRED_SIDE pixels a side.

    The content is one that we have encoded ourselves. Raises AppError `gone` for a file that is none.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.draft("RGB", (BLURRED_SIDE, BLURRED_SIDE))
            small = picture.convert("RGB")
            small.thumbnail((BLURRED_SIDE, BLURRED_SIDE))
    except (UnidentifiedImageError, OSError) as error:
        raise AppError("gone", "The file can no longer be read.") from error
    target = io.BytesIO()
    small.save(target, "PNG")
    return target.getvalue()
