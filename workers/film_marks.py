"""The marks of films and of their clips: what a manifest says, the signature, and reading both marks back."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.orm import Session

from app.assets.tables import Asset
from app.catalog.models import load_catalog
from app.clock import now
from app.jobs.settle import RegistryEntry
from app.jobs.spec import Spec
from app.provenance.aigc import TAG, aigc_label, read_label
from app.provenance.manifest import FilmOrigin, Ingredient, read_manifest, sign_film, try_identity
from app.provenance.mark_state import MarkError, MarkState
from app.provenance.mp4_tags import read_tags
from app.provenance.signing import SigningIdentity, signing_identity
from app.settings import get_settings
from workers.engine import Stopped
from workers.film.encoding import FilmError


class UnmarkedFilm(FilmError):
    """A film could not be marked, or its marks cannot be read back; it is not delivered."""


def film_origin(session: Session, film_id: str, spec: Spec) -> FilmOrigin:
    """Return what the manifest of a job's film says, with the marks that its inputs carried when they came in."""
    model = load_catalog(get_settings().catalog_dir).get(spec.model)
    return FilmOrigin(
        film_id=film_id,
        model=spec.model,
        # Weights without a revision of their own come with a release of this program, or from its operator.
        model_version=(model.revision if model else "") or version("cinemeter"),
        producer=get_settings().producer,
        made_at=now(session),
        mode=spec.mode,
        ingredients=_ingredients(session, spec),
        reused_films=_reused_films(spec),
    )


def metadata(film_id: str) -> dict[str, str]:
    """Return the tags that a film, and each clip of it, is written with."""
    return {TAG: aigc_label(film_id, get_settings().producer)}


def usable_identity() -> SigningIdentity:
    """Return what films are signed with, once it has signed something. Raises MarkError where nothing can be signed."""
    identity = signing_identity()
    try_identity(identity)
    return identity


def sign(film: Path, out: Path, origin: FilmOrigin) -> None:
    """Write a film, or a clip of it, to `out` with its signed manifest.

    Raises UnmarkedFilm, and Stopped where the certificate is of no use: the take is handed back, since nothing is wrong
    with the film, and this worker claims no other before the certificate is replaced.
    """
    try:
        identity = usable_identity()
    except MarkError as error:
        raise Stopped(str(error)) from error
    try:
        sign_film(film, out, origin, identity)
    except MarkError as error:
        raise UnmarkedFilm(f"The film cannot be marked: {error}") from error


def check_marks(film: Path, film_id: str) -> None:
    """Read the marks of a stored film back. Raises UnmarkedFilm for one that is missing, broken, or of another film."""
    try:
        label = read_label(read_tags(film))
    except ValueError as error:
        raise UnmarkedFilm(f"The film's AIGC label cannot be read back: {error}.") from error
    if (label.state, label.content_id) != (MarkState.FOUND, film_id):
        raise UnmarkedFilm(f"The film's AIGC label cannot be read back: it is {label.state}.")
    manifest = read_manifest(film, "video/mp4")
    if (manifest.state, manifest.film_id) != (MarkState.FOUND, film_id):
        reason = ", ".join((str(manifest.state), *manifest.problems))
        raise UnmarkedFilm(f"The film's C2PA manifest cannot be read back: it is {reason}.")


def registry_entry(frame_hashes: bytes, origin: FilmOrigin) -> RegistryEntry:
    """Return what the registry keeps of a stored film with these hashes of its frames."""
    return RegistryEntry(
        model_version=origin.model_version,
        frame_hashes=frame_hashes,
        reused_films=tuple(origin.reused_films),
    )


def _ingredients(session: Session, spec: Spec) -> list[Ingredient]:
    """Return the customer's files that a film was made with, each once."""
    titles: dict[str, str] = {}
    for asset_id, title in _inputs(spec):
        if asset_id is not None:
            titles.setdefault(asset_id, title)
    assets = {asset_id: session.get(Asset, asset_id) for asset_id in titles}
    return [
        Ingredient(
            id=asset_id,
            title=title,
            media_type=(asset.content_type if asset else None) or "application/octet-stream",
            marks=asset.marks if asset else None,
        )
        for asset_id, title in titles.items()
        for asset in [assets[asset_id]]
    ]


def _inputs(spec: Spec) -> Iterable[tuple[str | None, str]]:
    yield spec.video, "video"
    yield spec.audio, "audio"
    for number, shot in enumerate(spec.shots, 1):
        yield shot.first_frame, f"first frame of shot {number}"
        yield shot.last_frame, f"last frame of shot {number}"


def _reused_films(spec: Spec) -> list[str]:
    """Return the ids of the films of whose clips a film is made too: each key of a clip names its job."""
    keys = (key for shot in spec.shots for key in shot.reuse_clips)
    return list(dict.fromkeys(key.split("/")[1] for key in keys))
