"""Files as customers send them: good ones in every accepted format, and hostile ones."""

import http.server
import subprocess
import threading
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from workers.film.ffmpeg import ffmpeg_binary


def make(path: Path, *words: str) -> Path:
    """Run ffmpeg with these arguments and write to `path`."""
    command = [ffmpeg_binary(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *words, str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path


def pictures(seconds: float = 1, size: str = "320x180", rate: str = "24") -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}"]


def tone(seconds: float = 1) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=d={seconds}"]


def make_clip(path: Path, *words: str, seconds: float = 1, size: str = "320x180", rate: str = "24") -> Path:
    return make(path, *pictures(seconds, size, rate), "-pix_fmt", "yuv420p", *words)


def make_picture(path: Path, size: tuple[int, int] = (320, 200), **options: object) -> Path:
    """A picture whose left half is red and right half blue, its top brighter."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0] = 200
    pixels[:, size[0] // 2 :, 2] = 200
    pixels[: size[1] // 2] += 40
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels and hardly holds any."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data = zlib.compress(b"\x00" * 10_000)
    header = chunk(b"IHDR", size + b"\x08\x02\x00\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


class Trap:
    """A web server in the private network that a reader must never call; `hits` lists the requests."""

    def __enter__(self) -> "Trap":
        self.hits: list[str] = []
        hits = self.hits

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hits.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"
