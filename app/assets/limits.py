"""Limits of assets, and of the resources for reading one. A file beyond them is refused."""

from dataclasses import dataclass

from app.assets.sniff import Kind
from app.concurrency import ConcurrencyLimit

MEBIBYTE = 2**20


@dataclass(frozen=True)
class AssetLimits:
    """Limits of one kind of asset. Sides and pixels are of the picture, or of each picture of a clip."""

    bytes_max: int
    side_min: int = 64
    side_max: int = 8192
    pixels_max: int = 40_000_000
    seconds_max: int = 0
    # The longer side of the stored file. Films are at most 1920 wide; a first frame may be cropped, so it is larger.
    kept_side_max: int = 1920


LIMITS: dict[Kind, AssetLimits] = {
    "picture": AssetLimits(bytes_max=30 * MEBIBYTE, kept_side_max=3072),
    # Every picture of a clip is decoded, so their limit is lower: 4096 × 2304 or as many pixels.
    "clip": AssetLimits(bytes_max=200 * MEBIBYTE, side_max=4096, pixels_max=9_437_184, seconds_max=60),
    "sound": AssetLimits(bytes_max=60 * MEBIBYTE, seconds_max=600),
}
BYTES_MAX = max(limits.bytes_max for limits in LIMITS.values())
# A form with files may hold the pictures, the clip and the sound of one order, and its text fields.
ORDER_FORM_BYTES_MAX = MEBIBYTE + 2 * LIMITS["picture"].bytes_max + LIMITS["clip"].bytes_max + LIMITS["sound"].bytes_max

# Frames per second of a stored clip; faster clips lose frames.
FPS_MAX = 60

# Limits of the probe process beside its memory: CPU time, wall clock, and bytes written to one file.
CPU_SECONDS = 240
WALL_SECONDS = 150
OUTPUT_BYTES = 512 * MEBIBYTE
# Probe processes that run at once per process.
READERS = 2

# Default retention of an asset, and of a pending upload.
KEEP_DAYS = 30
PENDING_HOURS = 24
# Unconfirmed uploads of an account.
PENDING_MAX = 100


# Per process: half of its sessions (app.db) remain for requests without uploads.
TOGETHER_MAX = 16
# Per account: slow URLs of one customer must not block the files of others.
EACH_MAX = 6

ingest_slot = ConcurrencyLimit("files", "ingested", each=EACH_MAX, together=TOGETHER_MAX).hold


class RefusedError(Exception):
    """The file cannot be used. The message completes `The file was refused: …`, which its owner sees."""
