"""The checkers of pictures that the operator's policy names, and what holds where one of them fails."""

import logging
from importlib.util import find_spec

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


def require_checkers() -> None:
    """Raise RuntimeError where a checker that the policy names cannot run: no process may go on without it."""
    policy = moderation_policy()
    if policy.onnx is None:
        return
    if find_spec("onnxruntime") is None:
        raise RuntimeError("The classifier of [onnx] needs onnxruntime: install the extra pictures.")
    try:
        picture_checkers()
    except OSError as error:
        raise RuntimeError(f"The model of [onnx] cannot be read: {error.strerror}") from None


def shows_unchecked() -> bool:
    """Return whether anything of a film may be seen before it is finished: where films are checked, by the policy."""
    policy = moderation_policy()
    return policy.pictures.previews or not (policy.pictures.output and policy.checks_pictures)


def failed_answer(checker: PictureChecker, failure: Exception) -> PictureAnswer:
    """Return what holds where a checker has failed: the outcome of the policy, of the category `unchecked`."""
    log.warning("The checker %s did not check pictures (%s): policy %s", checker.name, failure, checker.on_failure)
    return PictureAnswer(
        Finding(ON_FAILURE[checker.on_failure], UNCHECKED, 0.0, str(failure), "", checker.name), UNCHECKED
    )
