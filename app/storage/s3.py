"""Storage in a bucket of any S3-compatible store; the only module that imports boto3."""

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError

from app.storage.files import CHUNK_BYTES, write_whole
from app.storage.interface import Stat, StorageError, Stored, Upload, checked, named_prefix

PART_BYTES = 16 * 2**20
# Maximum consecutive resumes of a broken download without any progress.
_RESUMES_MAX = 4
_MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}
# Presigned uploads and stores behind proxies differ most in optional checksums: none are sent unless required.
_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=32,
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
# Somebody waits for each call of an API process, and holds one of its places meanwhile.
REQUEST_CONFIG = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)


class S3Storage:
    """A store in `bucket` under `prefix`. `public` is the endpoint in presigned URLs; `none` disables them."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str = "",
        region: str = "",
        public: str = "",
        create: bool = False,
        access_key: str = "",
        secret_key: str = "",
        config: Config | None = None,
    ) -> None:
        self.bucket = bucket
        self._base = f"{prefix}/" if prefix else ""
        self._endpoint = endpoint
        self._region = region or "us-east-1"
        self._public = public
        self._may_create = create or _is_loopback(endpoint)
        self._keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key} if access_key else {}
        self._config = _CONFIG.merge(config) if config else _CONFIG

    def put_file(self, key: str, path: Path, content_type: str) -> Stored:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        with _convert_errors(key):
            self._ensure_bucket()
            # Large files are uploaded in parallel parts; a failed part is retried, and a failed upload leaves nothing
            # behind.
            self._client.upload_file(
                str(path), self.bucket, self._name(key), ExtraArgs={"ContentType": content_type}, Config=_TRANSFER
            )
        stat = self.stat(key)
        if stat is None or stat.bytes != size:
            raise StorageError(f"The store has {stat.bytes if stat else 0} of the {size} bytes of {key!r}.")
        return Stored(key=key, bytes=size, sha256=sha256)

    def get_file(self, key: str, path: Path) -> Stored:
        # Get the size first: a connection that breaks inside the headers can make an answer look shorter than it is.
        stat = self.stat(key)
        if stat is None:
            raise FileNotFoundError(f"nothing is stored under {key!r}")
        with _convert_errors(key):
            pieces = self.read_range(key, 0, stat.bytes)
            return write_whole(pieces, path, key=key, draft_folder=path.parent, durable=False)

    def stat(self, key: str) -> Stat | None:
        with _convert_errors(key):
            for _ in range(_RESUMES_MAX):
                try:
                    head = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
                except ClientError as error:
                    if _code(error) in _MISSING:
                        return None
                    raise
                # A connection that breaks inside the headers gives an answer without the later ones.
                if {"ContentLength", "ETag", "LastModified"} <= head.keys():
                    return Stat(key=key, bytes=head["ContentLength"], modified_at=head["LastModified"])
        raise StorageError(f"The store's answers about {key!r} are incomplete.")

    def read_range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        if end <= start:
            return iter(())
        return self._stream(key, self._open(key, start, end), start, end)

    def delete(self, key: str) -> None:
        with _convert_errors(key):
            try:
                self._client.delete_object(Bucket=self.bucket, Key=self._name(key))
            except ClientError as error:
                if _code(error) not in _MISSING:
                    raise

    def purge(self, prefix: str) -> int:
        name, removed = self._base + named_prefix(prefix), 0
        with _convert_errors(prefix):
            try:
                for page in self._client.get_paginator("list_object_versions").paginate(
                    Bucket=self.bucket, Prefix=name
                ):
                    for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                        self._client.delete_object(Bucket=self.bucket, Key=item["Key"], VersionId=item["VersionId"])
                        removed += 1
            except ClientError as error:
                if _code(error) not in {*_MISSING, "NotImplemented", "MethodNotAllowed"}:
                    raise
        # A store without versions may list none.
        for stat in list(self.list(prefix)):
            self.delete(stat.key)
            removed += 1
        return removed

    def list(self, prefix: str) -> Iterator[Stat]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._base + prefix)
        with _convert_errors(prefix):
            try:
                for page in pages:
                    for item in page.get("Contents", []):
                        name = item["Key"].removeprefix(self._base)
                        yield Stat(key=name, bytes=item["Size"], modified_at=item["LastModified"])
            except ClientError as error:
                if _code(error) not in _MISSING:
                    raise

    def presign_get(self, key: str, *, seconds: int, filename: str, content_type: str) -> str | None:
        if self._public == "none":
            return None
        extra: dict[str, str | int] = {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": f'inline; filename="{filename}"',
        }
        return self._presign("get_object", key, seconds, extra)

    def presign_put(self, key: str, *, seconds: int, content_type: str, size: int) -> Upload | None:
        if self._public == "none":
            return None
        with _convert_errors(key):
            self._ensure_bucket()
        url = self._presign("put_object", key, seconds, {"ContentType": content_type, "ContentLength": size})
        return Upload(url=url, headers={"content-type": content_type})

    def remove_partial(self, before: datetime) -> int:
        removed = 0
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self._base)
        with _convert_errors(self._base):
            try:
                for upload in [item for page in pages for item in page.get("Uploads", [])]:
                    if upload["Initiated"] < before:
                        self._client.abort_multipart_upload(
                            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
            except ClientError as error:
                if _code(error) not in {*_MISSING, "NoSuchUpload", "NotImplemented"}:
                    raise
        return removed

    @cached_property
    def _client(self) -> Any:
        return self._make_client(self._endpoint)

    @cached_property
    def _signer(self) -> Any:
        return self._make_client(self._public) if self._public else self._client

    def _make_client(self, endpoint: str) -> Any:
        # A separate session: boto3's default one is not thread-safe while clients are created.
        session = boto3.session.Session()
        return session.client(
            "s3", endpoint_url=endpoint or None, region_name=self._region, config=self._config, **self._keys
        )

    @cached_property
    def _bucket_exists(self) -> bool:
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if _code(error) not in _MISSING:
                raise
            if not self._may_create:
                message = f"The bucket {self.bucket!r} does not exist; create it, or add create=1 to the storage URL."
                raise StorageError(message) from error
            self._client.create_bucket(Bucket=self.bucket)
        return True

    def _ensure_bucket(self) -> None:
        # Only success is cached, so this checks until the bucket exists and never again.
        _ = self._bucket_exists

    def _name(self, key: str) -> str:
        return self._base + checked(key)

    def _presign(self, operation: str, key: str, seconds: int, extra: dict[str, str | int]) -> str:
        parameters = {"Bucket": self.bucket, "Key": self._name(key), **extra}
        with _convert_errors(key):
            url: str = self._signer.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds)
        return url

    def _open(self, key: str, start: int, end: int, **conditions: str) -> Any:
        with _convert_errors(key):
            return self._client.get_object(
                Bucket=self.bucket, Key=self._name(key), Range=f"bytes={start}-{end - 1}", **conditions
            )

    def _stream(self, key: str, answer: Any, at: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `at` to `end`, resuming a broken download where it stopped."""
        tag = answer.get("ETag")
        resumes = 0
        while True:
            # Not `with answer["Body"]`: that returns the bare connection, which hides errors and short reads.
            with (
                closing(answer["Body"]) as body,
                suppress(IncompleteReadError, ResponseStreamingError, HTTPClientError),
            ):
                while answer.get("ContentLength") == end - at and (piece := body.read(CHUNK_BYTES)):
                    resumes = 0
                    yield piece
                    at += len(piece)
                    answer["ContentLength"] -= len(piece)
            if at >= end:
                return
            resumes += 1
            if resumes > _RESUMES_MAX:
                raise StorageError(f"The download of {key!r} from the store repeatedly failed at byte {at}.")
            answer = self._open(key, at, end, **({"IfMatch": tag} if tag else {}))
            tag = tag or answer.get("ETag")
            # Not every store honours IfMatch. Bytes of a file that was replaced meanwhile must not be mixed in.
            if answer.get("ETag", tag) != tag:
                raise StorageError(f"{key!r} was replaced while it was read.")


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _convert_errors(key: str) -> Iterator[None]:
    """Convert boto3's exceptions to FileNotFoundError and StorageError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except ClientError as error:
        if _code(error) in _MISSING:
            raise FileNotFoundError(f"nothing is stored under {key!r}") from error
        raise StorageError(f"The store refused {key!r}: {error}.") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(f"The store is unreachable for {key!r}: {error}.") from error
    except KeyError as error:
        raise StorageError(f"The store's answer about {key!r} lacks {error}.") from error
    except OSError as error:
        raise StorageError(f"The disk failed at {key!r}: {error.strerror or error}.") from error
