"""What an order's input files are declared to be: whether they may be used, and whether they show a real person."""

from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.assets.declarations import is_declared, missing_declaration, shows_person
from app.assets.tables import Asset
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec


def with_likeness(session: Session, spec: Spec, request: VideoRequest) -> Spec:
    """Return a Spec that is declared a deepfake where one of its files shows a real person.

    What a model makes of a person's picture shows them as they never were, so it always has a visible label.
    """
    is_declared_now = request.declaration is not None and request.declaration.likeness
    inputs = (session.get(Asset, asset_id) for asset_id in spec.input_ids())
    if spec.deepfake or not (is_declared_now or any(shows_person(asset) for asset in inputs)):
        return spec
    return spec.model_copy(update={"deepfake": True})


def check_declared(session: Session, account: Account, spec: Spec, request: VideoRequest) -> None:
    """Check that an account which has to declare its files has done so.

    An owner's declaration for all files counts, so clients that cannot send one go on. Raises AppError
    `invalid_request`.
    """
    if not account.declarations_required or account.rights_declared_at is not None or request.declaration is not None:
        return
    if not all(is_declared(session.get(Asset, asset_id)) for asset_id in spec.input_ids()):
        raise missing_declaration()
