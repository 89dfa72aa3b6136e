"""Hash pictures by what they look like, in a confined process: they are made of files of customers.

`python -m app.moderation.frame_hash_process` reads `{"pictures": [path…], "seconds": s}` and prints
`{"hashes": [hex…]}`: for each picture its PDQ hash, empty for one with too few features to be compared.
"""

import json
import os
import sys

from app.confined import confine

_OUTPUT_BYTES = 2**20
_MEMORY_BYTES = 2**30
_CPU_SECONDS_MORE = 10  # for the start
# As the frames of films are hashed (app.provenance.frame_hashes).
_SHORT_SIDE = 256
_ASPECT_MAX = 8


def main() -> int:
    """Print the hashes of the pictures that the input names. Ends with an error for one that cannot be read."""
    order = json.load(sys.stdin)
    os.nice(5)
    confine(
        cpu_seconds=int(order["seconds"]) + _CPU_SECONDS_MORE, output_bytes=_OUTPUT_BYTES, memory_bytes=_MEMORY_BYTES
    )
    print(json.dumps({"hashes": [_hash(path) for path in order["pictures"]]}))  # noqa: T201 - the answer to the parent
    return 0


def _hash(path: str) -> str:
    # Imported behind the limits.
    import numpy as np
    from PIL import Image

    from app.provenance.frame_hashes import hash_of_luma

    with Image.open(path, formats=["JPEG"]) as picture:
        short = min(picture.size)
        if max(picture.size) > _ASPECT_MAX * short:
            return ""
        width, height = (round(side * _SHORT_SIDE / short) for side in picture.size)
        luma = picture.convert("L").resize((width, height), Image.Resampling.BOX)
    return (hash_of_luma(np.asarray(luma, np.uint8)) or b"").hex()


if __name__ == "__main__":
    sys.exit(main())
