"""The films that a fresh installation shows on its landing page: `make showcase`.

It starts a service in a home of its own, orders three of the studio's example storyboards from the demo model as a
customer does, and writes films, posters and `films.json` into app/web/showcase. The streams of a film are those that
the service delivered; the file's tags are added, so that it says what it is wherever it goes. Two minutes on two cores.
"""

import hashlib
import json
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from PIL import Image

from app.web.studio.examples import EXAMPLES, ExampleStoryboard
from tests.live_service import follow, start, stop
from tests.repo.sources import ROOT

FOLDER = ROOT / "app/web/showcase"
SHOWN = ("sunrise", "rocket", "shapes")
SEED = 7
POSTER_WIDTH = 960
"""Width of a poster in pixels."""


def tagged(film: bytes, tags: dict[str, str]) -> bytes:
    """Return an MP4 with these tags, its index before its frames; every packet is copied as it is."""
    options = {"movflags": "+faststart+use_metadata_tags"}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"  # moving the index reads the file again, by its name
        with av.open(BytesIO(film)) as source, av.open(str(target), "w", options=options) as output:
            output.metadata.update(tags)
            streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    output.mux(packet)
        return target.read_bytes()


def poster(film: bytes) -> bytes:
    """Return the first frame as a small JPEG: the film begins where its poster stands."""
    with av.open(BytesIO(film)) as source:
        picture = next(source.decode(video=0)).to_image()
    picture.thumbnail((POSTER_WIDTH, POSTER_WIDTH), Image.Resampling.LANCZOS)
    target = BytesIO()
    picture.save(target, "JPEG", quality=82, optimize=True, progressive=True)
    return target.getvalue()


def order_of(example: ExampleStoryboard) -> dict[str, Any]:
    """Return the order of an example storyboard."""
    shots = [
        {"prompt": shot.prompt, "seconds": shot.seconds, "transition": shot.transition} for shot in example.draft.shots
    ]
    return {"model": "demo", "resolution": "720P", "ratio": "16:9", "seed": SEED, "shots": shots}


def tags_of(example: ExampleStoryboard, video: dict[str, Any]) -> dict[str, str]:
    """Return what a film's file says about itself."""
    prompts = "; ".join(shot.prompt for shot in example.draft.shots)
    return {
        "title": example.title,
        "artist": "Cinemeter demo model",
        "comment": f"AI-generated film. Model {video['model']}, seed {video['seed']}. Prompts: {prompts}.",
    }


def main() -> None:
    """Order the films and write the folder."""
    FOLDER.mkdir(exist_ok=True)
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder) / "home")
        try:
            with service.client("enterprise") as client:
                for example in (each for each in EXAMPLES if each.id in SHOWN):
                    order = client.post("/v1/videos", json=order_of(example)).raise_for_status().json()
                    video = follow(client, order["id"])
                    content = client.get(f"/v1/videos/{video['id']}/content").raise_for_status().content
                    film = tagged(content, tags_of(example, video))
                    (FOLDER / f"{example.id}.mp4").write_bytes(film)
                    (FOLDER / f"{example.id}.jpg").write_bytes(poster(film))
                    entries.append(
                        {
                            "id": example.id,
                            "model": video["model"],
                            "seed": video["seed"],
                            "resolution": "720P",
                            "size": video["size"],
                            "fps": video["fps"],
                            "frames": video["num_frames"],
                            "sha256": hashlib.sha256(film).hexdigest(),
                        }
                    )
        finally:
            stop(service)
    (FOLDER / "films.json").write_text(json.dumps(entries, indent=2) + "\n")
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{len(entries)} films, {total:,} bytes in {FOLDER}")


if __name__ == "__main__":
    main()
