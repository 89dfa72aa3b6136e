"""The ratio `adaptive`: that of the first picture or clip of an order."""

from math import log

from sqlalchemy.orm import Session

from app.assets.find import ready_asset
from app.assets.owner import AssetOwner
from app.assets.sniff import Kind
from app.catalog.sizes import SIZES
from app.jobs.schemas import VideoRequest

ADAPTIVE = "adaptive"


def with_ratio(session: Session, owner: AssetOwner, request: VideoRequest) -> VideoRequest:
    """Return a request whose ratio `adaptive` is replaced by the sold one nearest to its first picture or clip.

    Without either, or beside a `size`, the ratio is left to the default or to the size. Inputs are ids of assets here.
    Raises AppError as `ready_asset` does.
    """
    if (request.ratio or "").strip().lower() != ADAPTIVE:
        return request
    source = None if request.size else _source(request)
    if source is None:
        return request.model_copy(update={"ratio": None})
    asset_id, kind, field = source
    asset = ready_asset(session, owner, asset_id, kind=kind, field=field)
    return request.model_copy(update={"ratio": nearest_ratio(asset.width or 1, asset.height or 1)})


def nearest_ratio(width: int, height: int) -> str:
    """Return the sold ratio nearest to a picture of `width` x `height` pixels."""
    return min(SIZES, key=lambda size: abs(log(size.width / size.height) - log(width / height))).ratio


def _source(request: VideoRequest) -> tuple[str, Kind, str] | None:
    """Return the asset that decides, its kind and the field that names it."""
    shot = request.shots[0] if request.shots else None
    pictures = (
        (request.first_frame, "first_frame"),
        (request.last_frame, "last_frame"),
        (shot and shot.first_frame, "shots.0.first_frame"),
        (shot and shot.last_frame, "shots.0.last_frame"),
    )
    for asset_id, field in pictures:
        if asset_id:
            return asset_id, "picture", field
    return (request.video, "clip", "video") if request.video else None
