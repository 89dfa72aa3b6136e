"""Storage of files: a folder, or a bucket of any S3-compatible store, behind one interface.

The facts about a file (its type, hash, owner) are in the database: nothing here depends on object metadata, lifecycle
rules or presigned POST, which many stores lack.
"""

import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.process_role import process_role
from app.settings import get_settings
from app.storage.files import FileStorage
from app.storage.interface import Stat, Storage, StorageError, Stored, Upload
from app.storage.s3 import REQUEST_CONFIG, S3Storage

__all__ = ["Stat", "Storage", "StorageError", "Stored", "Upload", "get_storage", "open_storage"]


def open_storage(url: str) -> Storage:
    """Return the storage at `url`. Nothing is read or written before its first use.

    - `file:/folder`
    - `s3://bucket/prefix?endpoint=http://host:port&region=name`, with keys from the settings or, when these are empty,
      from boto3's own sources. `public=https://…` is the endpoint in presigned URLs for customers (`public=none`: no
      presigned URLs, files pass through the API). A missing bucket is created on a loopback endpoint and with
      `create=1`; elsewhere it is an error.

    Raises ValueError for anything else.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        # The path is used literally: a home may contain spaces, percent signs and question marks.
        return FileStorage(Path(re.sub(r"^file:(//(?=/))?", "", url)))
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme != "s3" or not parts.netloc or options.keys() - {"endpoint", "region", "public", "create"}:
        raise ValueError(
            f"{url!r} is not a storage URL; use file:/folder or s3://bucket/prefix?endpoint=URL&region=NAME"
        )
    settings = get_settings()
    return S3Storage(
        parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=options.get("endpoint", ""),
        region=options.get("region", ""),
        public=options.get("public", ""),
        create=options.get("create", "") == "1",
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        config=REQUEST_CONFIG if process_role() == "api" else None,
    )


@lru_cache(maxsize=4)
def _opened(url: str) -> Storage:
    return open_storage(url)


def get_storage() -> Storage:
    """Return this process's storage by its settings."""
    return _opened(get_settings().storage())
