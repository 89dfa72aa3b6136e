"""The C2PA manifest of a film: written and signed as the last step, and read from files. Nothing is fetched."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import c2pa

from app.provenance.mark_state import MarkError, MarkState
from app.provenance.signing import SigningIdentity

GENERATOR = "Cinemeter"
FILM_ASSERTION = "cinemeter.film"
_GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# A PNG of one pixel.
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
# No thumbnails, and nothing from the network: no manifest that a file points at, no OCSP, no list of trust.
_SETTINGS: dict[str, Any] = {
    "core": {"allowed_network_hosts": []},
    "verify": {
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
        "verify_after_sign": False,
        "verify_trust": False,
        "verify_timestamp_trust": False,
    },
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class Ingredient:
    """A file that a film was made with. `marks` are those that it carried when it came in, as `read_marks` has them."""

    id: str
    title: str
    media_type: str
    marks: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class FilmOrigin:
    """What a manifest says of a film: its id, the model that made it, the operator's name, and what it was made with.

    `reused_films` are the ids of films of whose shots this one is made too. `marked_at` is set for a film that was
    delivered without marks at `made_at`; which version of the model made it may be unknown then (empty).
    """

    film_id: str
    model: str
    model_version: str
    producer: str
    made_at: datetime
    mode: str
    ingredients: Sequence[Ingredient] = ()
    reused_films: Sequence[str] = ()
    marked_at: datetime | None = None


@dataclass(frozen=True)
class ManifestFacts:
    """What the manifest of a file says, all of it as its signer wrote it. `problems` are C2PA's codes of failures."""

    state: MarkState
    label: str = ""
    title: str = ""
    generator: str = ""
    issuer: str = ""
    source_type: str = ""
    film_id: str = ""
    problems: tuple[str, ...] = ()
    ingredients: tuple[str, ...] = field(default=(), repr=False)


def sign_film(path: Path, out: Path, origin: FilmOrigin, identity: SigningIdentity) -> None:
    """Write the film at `path` (MP4) to `out` with its signed manifest. Nothing may change the file afterwards.

    Raises MarkError when it cannot be signed.
    """
    definition = json.dumps(_definition(origin, identity))
    info = c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.chain, identity.key, None)
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(definition, context) as builder,
            path.open("rb") as film,
            out.open("w+b") as signed,
        ):
            builder.sign(signer, "video/mp4", film, signed)
    except c2pa.C2paError as error:
        raise MarkError(f"the manifest cannot be signed: {error}") from error


@lru_cache(maxsize=4)
def try_identity(identity: SigningIdentity) -> None:
    """Sign a picture of one pixel, as C2PA accepts only some certificates and says so when it signs.

    Raises MarkError for an identity that cannot sign; one that can is tried once.
    """
    try:
        info = c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.chain, identity.key, None)
        definition = json.dumps({"claim_generator_info": [{"name": GENERATOR}], "assertions": []})
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(definition, context) as builder,
            io.BytesIO(_PIXEL) as picture,
            io.BytesIO() as signed,
        ):
            builder.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.EMPTY)
            builder.sign(signer, "image/png", picture, signed)
    except c2pa.C2paError as error:
        raise MarkError(f"The certificate {identity.name} cannot sign films: {error}") from error


def read_manifest(path: Path, media_type: str) -> ManifestFacts:
    """Return what the manifest inside a file says. A file that only points at a manifest elsewhere has none.

    So has one of a type that the library does not read. Raises OSError.
    """
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            path.open("rb") as file,
            c2pa.Reader(media_type, file, context=context) as reader,
        ):
            store = json.loads(reader.json())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return ManifestFacts(MarkState.ABSENT)
    except (c2pa.C2paError, ValueError, RecursionError) as error:
        # The library has no class of its own for a manifest elsewhere that it may not fetch.
        if str(error).startswith("Remote"):
            return ManifestFacts(MarkState.ABSENT)
        return ManifestFacts(MarkState.BROKEN, problems=(type(error).__name__,))
    return _facts(store)


def _definition(origin: FilmOrigin, identity: SigningIdentity) -> dict[str, Any]:
    """Return the manifest as the library takes it."""
    ingredients = [_ingredient(each) for each in origin.ingredients]
    ingredients += [_reused(film_id) for film_id in origin.reused_films]
    created: dict[str, Any] = {
        "action": "c2pa.created",
        "when": origin.made_at.isoformat(timespec="seconds"),
        "digitalSourceType": _GENERATED,
        "softwareAgent": {"name": origin.model, **({"version": origin.model_version} if origin.model_version else {})},
    }
    if ingredients:
        created["parameters"] = {"ingredientIds": [each["instance_id"] for each in ingredients]}
    film: dict[str, Any] = {
        "id": origin.film_id,
        "model": origin.model,
        "model_version": origin.model_version,
        "mode": origin.mode,
        "producer": origin.producer,
        "made_at": origin.made_at.isoformat(timespec="seconds"),
        "certificate": "development" if identity.is_development else "operator",
    }
    if origin.marked_at is not None:
        film["marked_at"] = origin.marked_at.isoformat(timespec="seconds")
    marks = [{"id": each.id, "marks": dict(each.marks)} for each in origin.ingredients if each.marks]
    if marks:
        film["marks_of_inputs"] = marks
    return {
        "claim_generator_info": [{"name": GENERATOR, "version": version("cinemeter")}],
        "title": f"{origin.film_id}.mp4",
        "format": "video/mp4",
        "ingredients": ingredients,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": FILM_ASSERTION, "data": film},
        ],
    }


def _ingredient(ingredient: Ingredient) -> dict[str, Any]:
    return {
        "title": ingredient.title,
        "format": ingredient.media_type,
        "instance_id": ingredient.id,
        "relationship": "inputTo",
    }


def _reused(film_id: str) -> dict[str, Any]:
    return {"title": f"{film_id}.mp4", "format": "video/mp4", "instance_id": film_id, "relationship": "inputTo"}


def _facts(store: Mapping[str, Any]) -> ManifestFacts:
    """Return the facts of a manifest store as the library read it: nothing in it is trusted to be of any form."""
    label = _text(store.get("active_manifest"))
    manifest = _mapping(_mapping(store.get("manifests")).get(label))
    results = _mapping(_mapping(store.get("validation_results")).get("activeManifest"))
    problems = tuple(_text(_mapping(each).get("code")) for each in _sequence(results.get("failure")))
    is_valid = store.get("validation_state") in ("Valid", "Trusted") and bool(manifest)
    generators = _sequence(manifest.get("claim_generator_info"))
    assertions = {
        _text(_mapping(each).get("label")): _mapping(_mapping(each).get("data"))
        for each in _sequence(manifest.get("assertions"))
    }
    return ManifestFacts(
        state=MarkState.FOUND if is_valid else MarkState.BROKEN,
        label=label,
        title=_text(manifest.get("title")),
        generator=_text(_mapping(generators[0]).get("name")) if generators else _text(manifest.get("claim_generator")),
        issuer=_text(_mapping(manifest.get("signature_info")).get("issuer")),
        source_type=_source_type(assertions),
        film_id=_text(assertions.get(FILM_ASSERTION, {}).get("id")),
        problems=problems,
        ingredients=tuple(_text(_mapping(each).get("instance_id")) for each in _sequence(manifest.get("ingredients"))),
    )


def _source_type(assertions: Mapping[str, Mapping[str, Any]]) -> str:
    for label in ("c2pa.actions.v2", "c2pa.actions"):
        for action in _sequence(assertions.get(label, {}).get("actions")):
            if source_type := _text(_mapping(action).get("digitalSourceType")):
                return source_type
    return ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
