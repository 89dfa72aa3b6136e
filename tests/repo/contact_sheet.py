"""The README's pictures of films, made through the real API: `python -m tests.repo.contact_sheet`.

It starts a service in a home of its own, orders the films as a customer does, and writes `demo.png` (the storyboard of
`make demo`, four frames of each shot above the wave of its sound) and `contact-sheet.png` (twelve prompts, three
frames of each) into deploy/pictures. Two minutes on two cores.
"""

import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import av
import httpx
from PIL import Image, ImageDraw, ImageFont

from app.cli.film import STORYBOARD
from tests.live_service import follow, start, stop
from tests.repo.sources import ROOT

PROMPTS = (
    "a red circle moves right on a blue background",
    "a yellow square bounces on a green background",
    "a white triangle grows on a purple background",
    "a big blue square moves left slowly on an orange background",
    "a small black circle moves in a circle on a yellow background",
    "a green triangle moves up on a white background",
    "an orange square shrinks on a gray background",
    "a purple circle stays still on a white background",
    "a big white square moves down on a red background",
    "a yellow triangle moves left quickly on a black background",
    "a red circle bounces and a white triangle grows on a blue background",
    "a green square stays still and a purple circle moves up on a gray background",
)
FRAME = (200, 112)
"""Width and height of one frame on the contact sheet, in pixels."""

MARGIN, CAPTION = 12, 22
WAVE_HEIGHT = 60
"""Height of the wave below a shot's frames, in pixels."""


def frames_of(film: Path, moments: Sequence[float], size: tuple[int, int]) -> list[Image.Image]:
    """The frames nearest behind these moments (shares of the film's length, 0..1), scaled to a size in pixels."""
    with av.open(str(film)) as opened:
        frames = [frame.to_image() for frame in opened.decode(video=0)]
    return [
        frames[min(int(moment * len(frames)), len(frames) - 1)].resize(size, Image.Resampling.LANCZOS)
        for moment in moments
    ]


def contact_sheet(films: Sequence[tuple[str, Path]], columns: int = 2) -> Image.Image:
    """A sheet of films: three frames of each in a row, its prompt below."""
    cell = (3 * FRAME[0] + MARGIN, FRAME[1] + CAPTION + MARGIN)
    sheet = Image.new(
        "RGB", (columns * cell[0] + MARGIN, -(-len(films) // columns) * cell[1] + MARGIN), (250, 250, 250)
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, (prompt, film) in enumerate(films):
        left, top = MARGIN + number % columns * cell[0], MARGIN + number // columns * cell[1]
        for index, frame in enumerate(frames_of(film, (0.05, 0.5, 0.95), FRAME)):
            sheet.paste(frame, (left + index * FRAME[0], top))
        draw.text((left, top + FRAME[1] + 3), prompt, fill=(40, 40, 40), font=font)
    return sheet


def storyboard(film: Path, seconds: Sequence[float], wave: Image.Image) -> Image.Image:
    """One row of four frames for each shot, given the shots' lengths in seconds, and its part of the wave below."""
    row_height = 180 + WAVE_HEIGHT
    sheet = Image.new("RGB", (4 * 320, len(seconds) * row_height), (250, 250, 250))
    for row, length in enumerate(seconds):
        start = sum(seconds[:row])
        moments = [(start + share * length) / sum(seconds) for share in (0.05, 0.35, 0.65, 0.95)]
        for index, frame in enumerate(frames_of(film, moments, (320, 180))):
            sheet.paste(frame, (index * 320, row * row_height))
        columns = [round(wave.width * at / sum(seconds)) for at in (start, start + length)]
        part = wave.crop((columns[0], 0, columns[1], wave.height)).resize((sheet.width, WAVE_HEIGHT))
        sheet.paste(part, (0, row * row_height + 180), part)
    return sheet


def wave_of(client: httpx.Client, film: Path) -> Image.Image:
    """The picture of a film's sound that its page shows, with transparency; the file is named by the film's id."""
    answer = client.get(f"/v1/videos/{film.stem}/content", params={"variant": "waveform"}).raise_for_status()
    return Image.open(BytesIO(answer.content)).convert("RGBA")


def order(client: httpx.Client, folder: Path, **asked: object) -> Path:
    """Order a film, wait for it, and return where it was saved."""
    video = follow(client, client.post("/v1/videos", json=asked).raise_for_status().json()["id"])
    assert video["status"] == "completed", video
    path = folder / f"{video['id']}.mp4"
    path.write_bytes(client.get(f"/v1/videos/{video['id']}/content").raise_for_status().content)
    return path


def main() -> None:
    """Order the films and write the pictures."""
    pictures = ROOT / "deploy" / "pictures"
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder) / "home")
        try:
            with service.client("pro") as client:
                demo = order(client, Path(folder), **STORYBOARD)
                wave = wave_of(client, demo)
                films = [
                    (prompt, order(client, Path(folder), model="demo", prompt=prompt, seconds=5, resolution="480P"))
                    for prompt in PROMPTS
                ]
            sheet = storyboard(demo, [shot["seconds"] for shot in STORYBOARD["shots"]], wave)
            sheet.save(pictures / "demo.png", optimize=True)
            contact_sheet(films).quantize(128).save(pictures / "contact-sheet.png", optimize=True)
        finally:
            stop(service)


if __name__ == "__main__":
    main()
