"""The marks that an upload carries are read, in the confined process, before it is re-encoded without them."""

import http.server
import threading
from pathlib import Path

import c2pa
import pytest
from PIL import Image

from app.assets.sandbox_probe import probe_file
from app.provenance.aigc import TAG
from app.provenance.signing import signing_identity
from app.settings import get_settings
from tests.app.provenance.marked_films import marked_film
from tests.workers.film.clips import write_clip
from workers.film.join import join


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CINEMETER_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


def probe(path: Path) -> dict[str, str]:
    folder = path.parent / "output"
    folder.mkdir()
    return probe_file(path, folder, want=None).marks or {}


def test_a_clip_with_both_marks(tmp_path: Path) -> None:
    marks = probe(marked_film(tmp_path, "film_7"))
    assert (marks["c2pa"], marks["aigc"]) == ("found", "found")
    assert (marks["aigc_id"], marks["c2pa_generator"]) == ("film_7", "Cinemeter")
    assert marks["source_type"] == "trainedAlgorithmicMedia"


def test_a_picture_without_marks(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    assert probe(tmp_path / "picture.png") == {"c2pa": "absent", "aigc": "absent"}


def test_text_of_strangers_is_cut_and_damage_is_said(tmp_path: Path) -> None:
    film = marked_film(tmp_path, "x" * 500)
    data = bytearray(film.read_bytes())
    data[data.rindex(b"c2pa.claim.v2") + 20] ^= 1
    film.write_bytes(data)
    marks = probe(film)
    assert (marks["c2pa"], marks["aigc_id"]) == ("broken", "x" * 100)


def test_text_that_no_database_stores_is_left_out(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(4))
    text = r'{"Label":"1","ContentProducer":"\u0000","ProduceID":"a\u0000b\ud800c"}'
    join([clip], tmp_path / "labelled.mp4", metadata={TAG: text})
    assert probe(tmp_path / "labelled.mp4") == {"c2pa": "absent", "aigc": "found", "aigc_id": "abc"}


def test_a_manifest_elsewhere_is_not_fetched(tmp_path: Path) -> None:
    calls: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        Image.new("RGB", (64, 64)).save(tmp_path / "plain.jpg")
        identity = signing_identity()
        info = c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.chain, identity.key, None)
        definition = {"claim_generator_info": [{"name": "test", "version": "1"}], "assertions": []}
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(definition) as builder:
            builder.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
            builder.set_no_embed()
            with (tmp_path / "plain.jpg").open("rb") as plain, (tmp_path / "remote.jpg").open("w+b") as remote:
                builder.sign(signer, "image/jpeg", plain, remote)
        assert b"/manifest.c2pa" in (tmp_path / "remote.jpg").read_bytes()
        assert probe(tmp_path / "remote.jpg")["c2pa"] == "absent"
        assert calls == []
    finally:
        server.shutdown()
        server.server_close()
