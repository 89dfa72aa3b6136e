"""PDQ: the hashes of published pictures, bit by bit, and how hashes are cut and compared."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.provenance.frame_hashes import as_rows, hash_of_luma, hash_parts, split_hashes
from app.provenance.pdq import DISTANCE_MAX, QUALITY_MIN, distances, pdq_hash

PICTURES = Path(__file__).with_name("pdq")
# See pdq/README.md.
PUBLISHED = {
    "square-128x128": "d8f8f1eec0f4a84f0e37022a078f63f0b36e2ed596621e1d33e6239c4e9c9b22",
    "square-256x256": "d8f8f0cec4f4a84f0637022a078f67f0b36e2ee5b6621e1d33e6239c4e9c9b22",
    "shrink-a-lot": "d0f8f1ccc0f4a84d0a370a3a228f67f0b36e2ed5b6623e1d33e6339c4e9c9b22",
    "small": "0007001f003f003f007f00ff00ff00ff01ff01ff01ff03ff03ff03ff03ff03ff",
}


def luma(name: str) -> np.ndarray:
    with Image.open(PICTURES / f"{name}.jpg") as picture:
        return np.asarray(picture.convert("L"))


def random_hashes(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, 32 * count, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pictures_have_their_published_hashes(name: str) -> None:
    found = pdq_hash(luma(name))
    # The decoders of JPEG differ by a level here and there; with the one that is pinned no bit differs.
    assert distances(as_rows(found.value), as_rows(bytes.fromhex(PUBLISHED[name])))[0, 0] <= 2
    assert (found.quality >= QUALITY_MIN) == (name != "small")


def test_one_picture_in_several_sizes_is_near_and_others_are_far() -> None:
    hashes = np.concatenate([as_rows(bytes.fromhex(each)) for each in PUBLISHED.values()])
    apart = distances(hashes, hashes)
    assert apart[:3, :3].max() <= DISTANCE_MAX
    assert apart[3, :3].min() > 2 * DISTANCE_MAX
    assert (np.diag(apart) == 0).all()


def test_pictures_without_features_are_not_compared() -> None:
    assert hash_of_luma(np.full((256, 256), 128, np.uint8)) is None
    assert hash_of_luma(luma("small")) is None
    assert hash_of_luma(luma("square-256x256")) == bytes.fromhex(PUBLISHED["square-256x256"])
    with pytest.raises(ValueError, match="at least 64"):
        pdq_hash(np.zeros((63, 200), np.uint8))


def test_hashes_that_differ_in_few_bits_share_a_part() -> None:
    """Nine bits can spoil nine of the ten parts at most."""
    one = random_hashes(1)
    other = bytearray(one)
    for part in range(9):
        other[3 * part] ^= 0x80
    assert len(set(hash_parts(one)) & set(hash_parts(bytes(other)))) == 1
    other[27] ^= 1
    assert not set(hash_parts(one)) & set(hash_parts(bytes(other)))


def test_parts_are_of_their_place_and_fit_an_integer_of_the_database() -> None:
    parts = hash_parts(b"\xff" * 32)
    assert len(parts) == 10
    assert 0 <= min(parts) < max(parts) < 2**31
    assert hash_parts(b"") == []
    assert [len(each) for each in split_hashes(random_hashes(3))] == [32, 32, 32]
