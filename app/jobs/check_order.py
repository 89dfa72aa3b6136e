"""Check the words of an order before anything of it is written or held: what must not be made is refused here."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.db import commit_early
from app.errors import AppError
from app.jobs.idempotency import CheckedOrder, OrderIdentity, earlier_job
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec, styled
from app.moderation.check import UNCHECKED, TextCheck, check_rules, check_server, has_server
from app.moderation.outcomes import CheckedText, CheckStage, Finding, Outcome
from app.moderation.record import record_before_order

# What callers read of the categories of the shipped rules; a server's own are named as it names them.
_CATEGORY_LABELS = {"minors": "sexual content with minors", "nudification": "undressing people"}
_RETRY_SECONDS = 10


def check_order(session: Session, caller: Caller, order: OrderIdentity, *, has_files: bool = False) -> OrderIdentity:
    """Return an order whose words were checked by the rules and, where there is one, by the operator's server.

    `has_files`: whether pictures or clips were uploaded with it. Words that were checked before are not checked again.
    The server is waited for without a transaction: what the session has done before is committed first, as it is
    before a refusal is recorded. A repeated call is left to `submit`, which returns its job. Raises AppError
    `content_refused` with stage and category, and `unavailable` where the server does not answer and the policy is
    closed.
    """
    texts = order_texts(order, has_files=has_files)
    if order.checked is not None and order.checked.texts == texts:
        return order
    check = _check(session, texts)
    finding = check.finding
    if finding is not None:
        is_refused = finding.outcome is Outcome.REFUSE
        # A call that was accepted stays accepted, whatever the rules say by now.
        if is_refused and earlier_job(session, caller, replace(order, is_first_try=False)) is not None:
            return replace(order, checked=CheckedOrder(texts, check.checked_by, finding))
        _record(session, caller, finding, order.door)
        if is_refused:
            raise refusal(finding)
    return replace(order, checked=CheckedOrder(texts, check.checked_by))


def check_request(
    session: Session, caller: Caller, request: VideoRequest, *, has_files: bool = False, interface: str = "native"
) -> None:
    """Check the words of a request that is to be quoted, as `check_order` does those of an order."""
    finding = _check(session, request_texts(request, has_files=has_files)).finding
    if finding is not None:
        _record(session, caller, finding, interface)
        if finding.outcome is Outcome.REFUSE:
            raise refusal(finding)


def require_checked(order: OrderIdentity) -> OrderIdentity:
    """Return an order that is about to be written, with the check of its words.

    One whose words nobody has checked is checked by the rules. Raises AppError `content_refused`, and RuntimeError
    where the operator's server ought to have checked it before: it cannot be waited for here.
    """
    texts = order_texts(order)
    if order.checked is None or order.checked.texts != texts:
        if has_server():
            raise RuntimeError("an order reached its transaction before the moderation server was asked")
        check = check_rules(texts)
        order = replace(order, checked=CheckedOrder(texts, check.checked_by, check.finding))
    if order.checked is not None and order.checked.finding is not None:
        raise refusal(order.checked.finding)
    return order


def order_texts(order: OrderIdentity, *, has_files: bool = False) -> tuple[CheckedText, ...]:
    """Return the words of an order, shot by shot, and those of its whole film: one scene may be cut into shots."""
    if order.spec is None:
        return request_texts(order.request, has_files=has_files)
    return _with_film(_spec_texts(order.spec))


def request_texts(request: VideoRequest, *, has_files: bool = False) -> tuple[CheckedText, ...]:
    """Return the words of a request, as `order_texts` does."""
    has_input = has_files or any((request.first_frame, request.last_frame, request.video))
    if request.shots is None:
        return (CheckedText(request.prompt or "", request.negative_prompt or "", has_input=has_input),)
    style = request.prompt or ""
    return _with_film(
        [
            CheckedText(
                styled(style, shot.prompt),
                request.negative_prompt or "" if shot.negative_prompt is None else shot.negative_prompt,
                has_input=has_input or shot.first_frame is not None or shot.last_frame is not None,
            )
            for shot in request.shots
        ]
    )


def _spec_texts(spec: Spec) -> list[CheckedText]:
    return [
        CheckedText(
            shot.prompt,
            shot.negative_prompt,
            has_input=any((spec.video, shot.first_frame, shot.last_frame)),
        )
        for shot in spec.shots
    ]


def _with_film(shots: Sequence[CheckedText]) -> tuple[CheckedText, ...]:
    if len(shots) == 1:
        return tuple(shots)
    whole = "\n".join(shot.prompt for shot in shots)
    return (*shots, CheckedText(whole, has_input=any(shot.has_input for shot in shots)))


def _check(session: Session, texts: tuple[CheckedText, ...]) -> TextCheck:
    check = check_rules(texts)
    if check.finding is None and has_server():
        commit_early(session)
        check = check_server(texts, check)
    return check


def _record(session: Session, caller: Caller, finding: Finding, interface: str) -> None:
    """Record a finding in a transaction of its own, which a refusal does not take back."""
    commit_early(session)
    record_before_order(
        session,
        finding,
        CheckStage.PROMPT,
        account_id=caller.account_id,
        test=caller.test,
        interface=interface,
    )
    commit_early(session)


def refusal(finding: Finding) -> AppError:
    """Return the error of an order that is refused; it names none of the words that were matched."""
    if finding.category == UNCHECKED:
        message = "The words of orders cannot be checked now. Nothing was ordered or charged; try again later."
        return AppError("unavailable", message, retry_after=_RETRY_SECONDS)
    label = _CATEGORY_LABELS.get(finding.category, finding.category)
    message = f"This service does not make what the prompt describes ({label}). Nothing was ordered or charged."
    return AppError("content_refused", message, stage=str(CheckStage.PROMPT), category=finding.category)
