"""The checkers of pictures that the operator's policy names, and what holds where one of them fails."""

import logging

from app.moderation.check import ON_FAILURE, UNCHECKED
from app.moderation.checker_interface import PictureAnswer, PictureChecker
from app.moderation.http_pictures import HttpPictures
from app.moderation.onnx_pictures import OnnxPictures
from app.moderation.outcomes import Finding
from app.moderation.policy import moderation_policy

log = logging.getLogger(__name__)


def picture_checkers(*, strict: bool = False) -> list[PictureChecker]:
    """Return the checkers of pictures of this process's policy, for accounts of the level `strict` or others."""
    policy = moderation_policy()
    categories = policy.strict.categories if strict else None
    checkers: list[PictureChecker] = []
    if policy.http is not None and policy.http.pictures:
        checkers.append(HttpPictures(policy.http, policy.pictures, strict=categories))
    if policy.onnx is not None:
        checkers.append(OnnxPictures(policy.onnx, policy.pictures))
    return checkers


def input_checkers(*, strict: bool = False) -> list[PictureChecker]:
    """Return the checkers of the pictures and clips of orders."""
    return picture_checkers(strict=strict) if moderation_policy().pictures.input else []


def output_checkers(*, strict: bool = False) -> list[PictureChecker]:
    """Return the checkers of finished films."""
    return picture_checkers(strict=strict) if moderation_policy().pictures.output else []


def shows_unchecked() -> bool:
    """Return whether anything of a film may be seen before it is finished: where films are checked, by the policy."""
    return moderation_policy().pictures.previews or not output_checkers()


def failed_answer(checker: PictureChecker, failure: Exception) -> PictureAnswer:
    """Return what holds where a checker has failed: the outcome of the policy, of the category `unchecked`."""
    log.warning("The checker %s did not check pictures (%s): policy %s", checker.name, failure, checker.on_failure)
    return PictureAnswer(
        Finding(ON_FAILURE[checker.on_failure], UNCHECKED, 0.0, str(failure), "", checker.name), UNCHECKED
    )
