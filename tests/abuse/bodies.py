"""Bodies made to be expensive for whoever parses them, and every route that they can be sent to."""

import gzip
import re
from collections.abc import Iterator
from functools import cache

from starlette.routing import Route

from app.api.route_index import iter_routes
from app.cli.asgi import create_site

MEBIBYTE = 2**20
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@cache
def hostile_bodies(size: int = 31 * MEBIBYTE) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return bodies of about `size` bytes by name, each with the headers that announce it."""
    fields = size // 11
    return {
        "ampersands": (b"&" * size, {"content-type": FORM}),
        "empty lists": (b'{"a":[' + b"[]," * (size // 3) + b"[]]}", {"content-type": JSON}),
        "deep lists": (b"[" * size, {"content-type": JSON}),
        "unknown fields": (
            b'{"prompt":"a",' + b",".join(b'"u%d":1' % number for number in range(fields)) + b"}",
            {"content-type": JSON},
        ),
        "wrong metadata": (
            b'{"prompt":"a","metadata":{' + b",".join(b'"%d":1' % number for number in range(fields)) + b"}}",
            {"content-type": JSON},
        ),
        "escapes in a data URL": (
            b'{"prompt":"a","first_frame":"data:;base64,' + b"\\n" * (size // 2) + b'"}',
            {"content-type": JSON},
        ),
        "short data URLs": (
            b'{"prompt":"a","shots":[' + b'"data:",' * (size // 8) + b'""]}',
            {"content-type": JSON},
        ),
        "parts without end": (b"--x\r\n" * (size // 5), {"content-type": "multipart/form-data; boundary=x"}),
        "line ends": (b"--x\r\n\r\n" + b"\r\n--" * (size // 4), {"content-type": "multipart/form-data; boundary=x"}),
        "after the last part": (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na\r\n--x--' + b"\r\n" * (size // 2),
            {"content-type": "multipart/form-data; boundary=x"},
        ),
        "gzip": (gzip.compress(b" " * size, 1), {"content-type": JSON, "content-encoding": "gzip"}),
    }


def routes_with_bodies() -> Iterator[tuple[str, str]]:
    """Yield the method and an address of each route of the service that may be sent a body."""
    for route in iter_routes(create_site()):
        assert isinstance(route, Route)
        for method in sorted({"POST", "PUT", "PATCH", "DELETE"} & set(route.methods or ())):
            yield method, re.sub(r"{(\w+)(:path)?}", r"\1", route.path)
