"""How large an asset may be, and what reading one may cost. Beyond these a file is refused, whatever it is."""

from dataclasses import dataclass

from app.assets.sniff import Kind
from app.concurrency import ConcurrencyLimit

MEBIBYTE = 2**20


@dataclass(frozen=True)
class AssetLimits:
    """Bounds of one kind of asset. Sides and pixels are those of the picture, or of each picture of a clip."""

    bytes_max: int
    side_min: int = 64
    side_max: int = 8192
    pixels_max: int = 40_000_000
    seconds_max: int = 0
    # The longer side of what is kept. Films are at most 1920 wide; a first frame may be cropped, so it keeps more.
    kept_side_max: int = 1920


LIMITS: dict[Kind, AssetLimits] = {
    "picture": AssetLimits(bytes_max=30 * MEBIBYTE, kept_side_max=3072),
    # Every picture of a clip is decoded, so a clip's pictures are bounded closer: 4096 × 2304 and its like.
    "clip": AssetLimits(bytes_max=200 * MEBIBYTE, side_max=4096, pixels_max=9_437_184, seconds_max=60),
    "sound": AssetLimits(bytes_max=60 * MEBIBYTE, seconds_max=600),
}
BYTES_MAX = max(limits.bytes_max for limits in LIMITS.values())

# Frames per second of a clip that is kept; faster ones are thinned out.
FPS_MAX = 60

# What the reading process may use: address space, processor time, wall clock, and bytes written to one file.
MEMORY_BYTES = 2 * 2**30
CPU_SECONDS = 240
WALL_SECONDS = 150
OUTPUT_BYTES = 512 * MEBIBYTE
# Readers at work at once in one process of ours.
READERS = 2

# How long an asset is kept where its owner's membership does not say, and an upload that was begun.
KEEP_DAYS = 30
PENDING_HOURS = 24
# Uploads that an account may have begun and not confirmed.
PENDING_MAX = 100


# Of one process: half of its sessions (app.db) stay for everybody who uploads nothing.
TOGETHER_MAX = 16
# Of one account: slow addresses of one customer must not keep another's file out.
EACH_MAX = 6

ingest_slot = ConcurrencyLimit("files", "taken", each=EACH_MAX, together=TOGETHER_MAX).hold


class RefusedError(Exception):
    """The file cannot be used. The message ends the sentence `The file was refused: …`, and its owner reads it."""
