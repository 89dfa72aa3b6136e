"""Verify a file: which marks it has, and of which films of this service it is made. Nothing of it is kept."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.assets.ingest import file_sha256, write_capped
from app.assets.limits import RefusedError
from app.db import transaction
from app.errors import AppError
from app.net.fetch import fetch_to
from app.provenance.mark_state import MarkState
from app.provenance.registry import RegistryMatch, find_films
from app.verification.file_reading import FileReading, read_file
from app.verification.limits import FETCH_SECONDS, FILE_BYTES_MAX, fetching_slots, reading_slots

# Films that are named, at most.
IDS_MAX = 20


@dataclass(frozen=True)
class Verification:
    """The states of a file's marks, and the ids of the films that it is made of. No person can be found by them.

    `watermark` is what the pixels carry, `registry` whether the file or frames like its own are of a delivered film.
    """

    c2pa: MarkState
    aigc: MarkState
    watermark: MarkState
    registry: MarkState
    ids: tuple[str, ...]


def verify_upload(file: BinaryIO, *, machine: str) -> Verification:
    """Verify a file that `machine` has sent. Call it without a transaction.

    Raises AppError `asset_refused` for a file that cannot be read, `rate_limited` while another one of this machine is
    being read, and `unavailable` while those of others are.
    """
    return _verify(lambda path: write_capped(file, path, bytes_max=FILE_BYTES_MAX), machine, field="file")


def verify_url(url: str, *, machine: str) -> Verification:
    """Fetch a file through the guarded fetcher, and verify it. Call it without a transaction.

    Raises AppError `url_refused`, and as `verify_upload` does.
    """

    def fetch(path: Path) -> None:
        with fetching_slots.hold(machine):
            fetch_to(path, url, bytes_max=FILE_BYTES_MAX, seconds=FETCH_SECONDS)

    return _verify(fetch, machine, field="url")


def _verify(receive: Callable[[Path], None], machine: str, *, field: str) -> Verification:
    # The received file is alone in its folder, and what is read from it in another. Both are removed at the end.
    with (
        tempfile.TemporaryDirectory(prefix="cinemeter-verified-") as received,
        tempfile.TemporaryDirectory(prefix="cinemeter-reading-") as folder,
    ):
        path = Path(received) / "file"
        try:
            receive(path)
            with reading_slots.hold(machine):
                reading, sha256 = read_file(path, Path(folder)), file_sha256(path)
        except RefusedError as refused:
            raise AppError("asset_refused", f"The file was refused: {refused}.", field=field) from refused
    with transaction() as session:
        match = find_films(session, hashes=[sha256], mark_ids=reading.mark_ids, frame_hashes=reading.frame_hashes)
    return _verification(reading, match)


def _verification(reading: FileReading, match: RegistryMatch) -> Verification:
    # What looks alike is named only where nothing names the film itself.
    ids = dict.fromkeys((*match.same_file, *match.watermarked)) or dict.fromkeys(match.similar)
    is_known = bool(match.same_file or match.similar)
    return Verification(
        c2pa=reading.c2pa,
        aigc=reading.aigc,
        watermark=reading.watermark,
        registry=MarkState.FOUND if is_known else MarkState.ABSENT,
        ids=tuple(ids)[:IDS_MAX],
    )
