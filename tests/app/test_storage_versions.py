"""A purge deletes every version that a store keeps, also of files that were deleted before."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from app.storage.s3 import S3Storage


class VersionedStore:
    """What a purge asks of a bucket with versions. `files` are (key, version) to whether it marks a deletion."""

    def __init__(self, files: dict[tuple[str, str], bool], *, has_versions: bool = True) -> None:
        self.files = files
        self.has_versions = has_versions
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "VersionedStore":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def storage(self) -> S3Storage:
        endpoint = f"http://127.0.0.1:{self.server.server_port}"
        return S3Storage("bucket", prefix="films", endpoint=endpoint, access_key="a", secret_key="b")

    def listing(self, query: dict[str, list[str]]) -> tuple[int, str]:
        prefix = query.get("prefix", [""])[0]
        found = [(key, version, mark) for (key, version), mark in self.files.items() if key.startswith(prefix)]
        if "versions" not in query:
            present = {key: None for key, _, mark in found if not mark}
            stamp = "<LastModified>2026-11-30T00:00:00Z</LastModified><Size>1</Size>"
            items = "".join(f"<Contents><Key>{key}</Key>{stamp}</Contents>" for key in present)
            return 200, f"<ListBucketResult>{items}</ListBucketResult>"
        if not self.has_versions:
            return 501, "<Error><Code>NotImplemented</Code><Message>No versions.</Message></Error>"
        items = ""
        for key, version, mark in found:
            tag = "DeleteMarker" if mark else "Version"
            items += f"<{tag}><Key>{key}</Key><VersionId>{version}</VersionId></{tag}>"
        return 200, f"<ListVersionsResult>{items}</ListVersionsResult>"

    def delete(self, key: str, version: str | None) -> None:
        for each in [one for one in self.files if one[0] == key and version in (None, one[1])]:
            del self.files[each]

    def _handler(store) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = store.listing(parse_qs(urlsplit(self.path).query, keep_blank_values=True))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_DELETE(self) -> None:
                parts = urlsplit(self.path)
                store.delete(parts.path.removeprefix("/bucket/"), parse_qs(parts.query).get("versionId", [None])[0])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def files() -> dict[tuple[str, str], bool]:
    """Two versions of a film, a file that was deleted before, and a film of somebody else."""
    return {
        ("films/films/1/a", "v1"): False,
        ("films/films/1/a", "v2"): False,
        ("films/films/1/gone", "v3"): False,
        ("films/films/1/gone", "v4"): True,
        ("films/films/2/a", "v5"): False,
    }


@pytest.fixture
def others() -> list[tuple[str, str]]:
    return [("films/films/2/a", "v5")]


def test_all_versions_go(files: dict[tuple[str, str], bool], others: list[tuple[str, str]]) -> None:
    with VersionedStore(files) as store:
        assert store.storage().purge("films/1/") == 4
        assert list(store.files) == others


def test_a_store_without_versions_is_purged_by_its_list(
    files: dict[tuple[str, str], bool], others: list[tuple[str, str]]
) -> None:
    with VersionedStore(files, has_versions=False) as store:
        store.storage().purge("films/1/")
        assert list(store.files) == others
