"""Check the pictures and clips of an order by the policy's checkers, before anything of it is held."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.assets.ingest import require_unblocked
from app.assets.owner import AssetOwner, OwnerIds, owned
from app.assets.tables import Asset, AssetState
from app.db import commit_early
from app.errors import AppError
from app.jobs.check_pictures import PictureFile, PicturesCheck, check_pictures
from app.jobs.idempotency import CheckedOrder, OrderIdentity
from app.jobs.record_finding import record_finding, refusal
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.moderation.outcomes import CheckStage, Finding, Outcome
from app.moderation.picture_checkers import input_checkers
from app.moderation.removed_looks import removed_looks
from app.storage import get_storage

FRAMES = ("first_frame", "last_frame")


class FilesCheck(NamedTuple):
    """The check of an order with that of its files: what stands against one of them, and the field that names it."""

    checked: CheckedOrder
    finding: Finding | None = None
    field: str | None = None


def check_files(
    session: Session, caller: Caller, order: OrderIdentity, checked: CheckedOrder, new: Sequence[Asset] = ()
) -> FilesCheck:
    """Check the pictures and clips of an order whose words were checked, as far as these are there.

    `new` are assets of it without a row yet. Files that were checked before are not checked again. What the session has
    done before is committed first. Raises AppError as `check_pictures` does.
    """
    wanted = order_files(order)
    # The files of a film that a caller may derive from need not be ones that the caller may name.
    owner = caller if order.spec is None else OwnerIds(caller.account_id, None, caller.test)
    unseen = {each: wanted[each] for each in wanted if each not in checked.files}
    check, files = _check(session, caller, unseen, new, owner=owner)
    if check is None:
        return FilesCheck(checked)
    _record_unchecked(session, caller, check, order.door)
    names = dict.fromkeys([*checked.checked_by.split(", "), *check.checked_by])
    checked = replace(checked, checked_by=", ".join(names), files=checked.files.union(file.id for file in files))
    return FilesCheck(checked, *_against(check, files, wanted))


def check_request_files(
    session: Session, caller: Caller, request: VideoRequest, new: Sequence[Asset] = (), *, interface: str = "native"
) -> None:
    """Check the pictures and clips of a request that is to be quoted; what is to be reviewed is quoted.

    Raises AppError as an order of them does.
    """
    wanted = _request_files(request)
    check, files = _check(session, caller, wanted, new, owner=caller)
    if check is None:
        return
    _record_unchecked(session, caller, check, interface)
    finding, field = _against(check, files, wanted)
    if finding is not None and finding.outcome is Outcome.REFUSE:
        record_finding(session, caller, finding, CheckStage.INPUT, interface)
        raise refusal(finding, CheckStage.INPUT, field=field)


def require_checked_files(session: Session, order: OrderIdentity, spec: Spec) -> None:
    """Raise AppError `conflict` for a picture or clip of an order that became ready after the order was checked."""
    files = order.checked.files if order.checked is not None else frozenset()
    unseen = {asset_id: field for asset_id, field in _spec_files(spec).items() if asset_id not in files}
    if unseen and (input_checkers() or removed_looks(session) is not None):
        asset_id, field = next(iter(unseen.items()))
        message = "The file was not ready when the order was checked; send the order again."
        raise AppError("conflict", message, field=field, id=asset_id)


def order_files(order: OrderIdentity) -> dict[str, str]:
    """Return the assets with pictures that an order names, and the field of each."""
    return _request_files(order.request) if order.spec is None else _spec_files(order.spec)


def _request_files(request: VideoRequest) -> dict[str, str]:
    named = {"video": request.video, "first_frame": request.first_frame, "last_frame": request.last_frame}
    for number, shot in enumerate(request.shots or ()):
        named |= {f"shots.{number}.{frame}": getattr(shot, frame) for frame in FRAMES}
    # A URL is no file yet.
    return {value: field for field, value in reversed(named.items()) if value is not None and ":" not in value}


def _spec_files(spec: Spec) -> dict[str, str]:
    named = {"video": spec.video}
    for number, shot in enumerate(spec.shots):
        prefix = f"shots.{number}." if len(spec.shots) > 1 else ""
        named |= {f"{prefix}{frame}": getattr(shot, frame) for frame in FRAMES}
    return {value: field for field, value in reversed(named.items()) if value is not None}


def _check(
    session: Session, caller: Caller, wanted: Mapping[str, str], new: Sequence[Asset], *, owner: AssetOwner
) -> tuple[PicturesCheck | None, list[Asset]]:
    """Check the files of an owner among those wanted that are there; None where there is nothing to check."""
    if not wanted:
        return None, []
    looks = removed_looks(session)
    # Last: what its own checkers refuse, a moderator need not look at.
    checkers = [*input_checkers(strict=caller.is_strict), *([] if looks is None else [looks])]
    if not checkers:
        return None, []
    unborn = [asset for asset in new if asset.id in wanted]
    missing = set(wanted).difference(asset.id for asset in unborn)
    mine = select(Asset).where(Asset.id.in_(missing), Asset.state == AssetState.READY, *owned(owner))
    assets = [*unborn, *(session.scalars(mine) if missing else ())]
    files = [asset for asset in assets if asset.kind in ("picture", "clip") and asset.sha256 and asset.key]
    if not files:
        return None, []
    if looks is not None:
        # The file itself is known for sure, and says so.
        for asset in unborn:
            require_unblocked(session, asset)
    storage = get_storage()
    sources = [PictureFile(str(each.sha256), partial(storage.get_file, str(each.key))) for each in files]
    commit_early(session)
    check = check_pictures(sources, checkers, CheckStage.INPUT, owner=caller.account_id, strict=caller.is_strict)
    return check, files


def _record_unchecked(session: Session, caller: Caller, check: PicturesCheck, interface: str) -> None:
    for finding in check.unchecked:
        record_finding(session, caller, finding, CheckStage.INPUT, interface)


def _against(
    check: PicturesCheck, files: Sequence[Asset], fields: Mapping[str, str]
) -> tuple[Finding | None, str | None]:
    """Return what stands against one of the files, and the field that names it."""
    if check.against is None:
        return None, None
    sha256, finding = check.against
    return finding, next(fields[file.id] for file in files if file.sha256 == sha256)
