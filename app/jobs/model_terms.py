"""Terms of models that an operator of the service has to accept before the model is sold."""

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.errors import AppError, not_found
from app.jobs.tables import AcknowledgedTerms
from app.roles import Role, require_role
from app.settings import get_settings


def terms_hash(model: VideoModel) -> str:
    """Return the SHA-256, in hex, of a model's terms: other words have to be accepted anew."""
    return sha256(model.acknowledge.encode()).hexdigest()


def models_with_terms() -> list[VideoModel]:
    """Return the models of the catalogue, enabled or not, whose terms have to be accepted."""
    return [each for each in load_catalog(get_settings().catalog_dir).values() if each.acknowledge]


def acknowledge_terms(session: Session, actor: Actor, model_id: str, *, words: str) -> AcknowledgedTerms:
    """Accept a model's terms for this service. `words` is the `terms_hash` of what the operator has read.

    Raises AppError `forbidden`, `not_found` for a model without terms, and `conflict` where the terms have changed
    since they were read, or are accepted already.
    """
    require_role(actor, Role.OPERATOR)
    model = next((each for each in models_with_terms() if each.id == model_id), None)
    if model is None:
        raise not_found("model with terms to accept", model_id)
    if words != terms_hash(model):
        message = f"The terms of {model.name} have changed since they were read; read them again."
        raise AppError("conflict", message, model=model.id)
    row = session.scalars(
        insert(AcknowledgedTerms)
        .values(model=model.id, terms_hash=words, person=actor.person, at=now(session))
        .on_conflict_do_nothing()
        .returning(AcknowledgedTerms)
    ).one_or_none()
    if row is None:
        raise AppError("conflict", f"The terms of {model.name} are accepted already.", model=model.id)
    record_action(session, actor, "model.terms_acknowledged", model.id, terms=model.acknowledge, terms_hash=words)
    return row


def acknowledgement_of(session: Session, model: VideoModel) -> AcknowledgedTerms | None:
    """Return who accepted a model's present terms and when, or None."""
    return session.get(AcknowledgedTerms, (model.id, terms_hash(model)))


def check_terms(session: Session, model: VideoModel, *, accepted: Collection[tuple[str, str]] | None = None) -> None:
    """Refuse a model whose terms no operator has accepted. Raises AppError `terms_not_acknowledged`.

    `accepted` are the models and hashes of the accepted terms where the caller has read them already.
    """
    if not model.acknowledge:
        return
    if accepted is None:
        is_accepted = acknowledgement_of(session, model) is not None
    else:
        is_accepted = (model.id, terms_hash(model)) in accepted
    if not is_accepted:
        message = (
            f"{model.name} is off until an operator of this service accepts its terms: in the console under Workers, "
            f"or with `cinemeter models acknowledge {model.id}`."
        )
        raise AppError("terms_not_acknowledged", message, field="model", value=model.id)


def on_sale(session: Session, models: Iterable[VideoModel], *, with_retired: bool = False) -> list[VideoModel]:
    """Return the enabled ones of these models whose terms, where they have some, are accepted.

    Retired ones are left out unless `with_retired`.
    """
    moment = now(session)
    rows: Sequence[AcknowledgedTerms] = session.scalars(select(AcknowledgedTerms)).all()
    accepted = {(each.model, each.terms_hash) for each in rows}
    return [
        each
        for each in models
        if each.enabled and (with_retired or not each.is_retired(moment))
        if not each.acknowledge or (each.id, terms_hash(each)) in accepted
    ]
