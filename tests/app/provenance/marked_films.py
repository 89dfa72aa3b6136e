"""A small film with its marks, and the verdict of a verifier that is not the signer."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from encypher_c2pa import verify

from app.provenance.aigc import TAG, aigc_label
from app.provenance.manifest import FilmOrigin, Ingredient, sign_film
from app.provenance.signing import signing_identity
from tests.workers.film.clips import write_clip
from workers.film.join import join

MADE_AT = datetime(2026, 11, 30, 12, tzinfo=UTC)


def origin(film_id: str, ingredients: Sequence[Ingredient] = (), reused_films: Sequence[str] = ()) -> FilmOrigin:
    return FilmOrigin(film_id, "synthetic", "1", "Example Films", MADE_AT, "t2v", ingredients, reused_films)


def labelled_film(folder: Path, film_id: str) -> Path:
    """A film of ten frames with its AIGC label, and without a manifest."""
    clip = write_clip(folder / "clip.mp4", numbers=range(10))
    join([clip], folder / "labelled.mp4", metadata={TAG: aigc_label(film_id, "Example Films")})
    return folder / "labelled.mp4"


def marked_film(folder: Path, film_id: str = "video_1", **origins: Any) -> Path:
    """A film of ten frames with both marks."""
    film = folder / "marked.mp4"
    sign_film(labelled_film(folder, film_id), film, origin(film_id, **origins), signing_identity())
    return film


def verdict(film: Path, *, chain: bytes | None = None) -> dict[str, Any]:
    """The report of a verifier that shares no code with the signer; nothing leaves this machine."""
    trust = chain.decode() if chain else None
    return dict(verify(film, "video/mp4", telemetry=False, online=False, no_default_trust=True, trust_pem=trust))


def silence_verifier(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep the verifier from looking for updates, and what it keeps of its user in `folder`."""
    monkeypatch.setenv("ENCYPHER_C2PA_UPDATE_CHECK", "off")
    monkeypatch.setenv("ENCYPHER_C2PA_TELEMETRY", "off")
    monkeypatch.setenv("ENCYPHER_C2PA_CONFIG_DIR", str(folder))
    monkeypatch.setenv("HOME", str(folder))
