"""Check the words of an order before anything of it is written or held: what must not be made is refused here."""

from dataclasses import replace

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.tables import ModerationLevel
from app.db import commit_early
from app.errors import AppError
from app.jobs.idempotency import CheckedOrder, OrderIdentity, earlier_job
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec, styled
from app.moderation.check import UNCHECKED, TextCheck, check_rules, check_server, count_words, has_server
from app.moderation.outcomes import CheckedText, CheckStage, Finding, Outcome
from app.moderation.record import record_before_order

# What callers read of the categories of the shipped rules; a server's own are named as it names them.
_CATEGORY_LABELS = {"minors": "sexual content with minors", "nudification": "undressing people"}
_RETRY_SECONDS = 10
# No storyboard has as many; the time of a check grows with them.
ORDER_WORDS_MAX = 60_000


def check_order(session: Session, caller: Caller, order: OrderIdentity, *, has_files: bool = False) -> OrderIdentity:
    """Return an order whose words were checked by the rules and, where there is one, by the operator's server.

    `has_files`: whether pictures or clips were uploaded with it. Words that were checked before are not checked again.
    The server is waited for without a transaction: what the session has done before is committed first, as it is
    before a refusal is recorded. A repeated call is left to `submit`, which returns its job. What is to be reviewed is
    accepted. Raises AppError `content_refused` with stage and category, and `unavailable` where the server does not
    answer and the policy is closed.
    """
    texts = order_texts(order, has_files=has_files)
    if order.checked is not None and order.checked.texts == texts:
        return order
    check = _check(session, caller, texts)
    finding = check.finding
    if finding is not None and finding.outcome is not Outcome.REVIEW:
        is_refused = finding.outcome is Outcome.REFUSE
        # A call that was accepted stays accepted, whatever the rules say by now.
        if is_refused and earlier_job(session, caller, replace(order, is_first_try=False)) is not None:
            return replace(order, checked=CheckedOrder(texts, check.checked_by, finding))
        _record(session, caller, finding, order.door)
        if is_refused:
            raise refusal(finding)
        finding = None
    return replace(order, checked=CheckedOrder(texts, check.checked_by, finding))


def check_request(
    session: Session, caller: Caller, request: VideoRequest, *, has_files: bool = False, interface: str = "native"
) -> None:
    """Check the words of a request that is to be quoted, as `check_order` does those of an order.

    A quote is no order yet: what is to be reviewed is quoted.
    """
    finding = _check(session, caller, request_texts(request, has_files=has_files)).finding
    if finding is not None and finding.outcome is not Outcome.REVIEW:
        _record(session, caller, finding, interface)
        if finding.outcome is Outcome.REFUSE:
            raise refusal(finding)


def require_checked(caller: Caller, order: OrderIdentity) -> OrderIdentity:
    """Return an order that is about to be written, with the check of its words.

    One whose words nobody has checked is checked by the rules. Raises AppError `content_refused`, and RuntimeError
    where the operator's server ought to have checked it before: it cannot be waited for here.
    """
    texts = order_texts(order)
    if order.checked is None or order.checked.texts != texts:
        if has_server():
            raise RuntimeError("an order reached its transaction before the moderation server was asked")
        check = check_rules(texts, strict=_is_strict(caller))
        order = replace(order, checked=CheckedOrder(texts, check.checked_by, check.finding))
    if order.checked is not None and order.checked.finding is not None and order.checked.review is None:
        raise refusal(order.checked.finding)
    return order


def order_texts(order: OrderIdentity, *, has_files: bool = False) -> tuple[CheckedText, ...]:
    """Return the words of an order, shot by shot; the last shot of an edit or extension with those of its film."""
    texts = request_texts(order.request, has_files=has_files) if order.spec is None else _spec_texts(order.spec)
    return (*texts[:-1], replace(texts[-1], earlier=order.earlier_prompts))


def request_texts(request: VideoRequest, *, has_files: bool = False) -> tuple[CheckedText, ...]:
    """Return the words of a request, as `order_texts` does."""
    has_input = has_files or any((request.first_frame, request.last_frame, request.video))
    if request.shots is None:
        return (CheckedText(request.prompt or "", request.negative_prompt or "", has_input=has_input),)
    return tuple(
        _shot_text(
            request.prompt or "",
            shot.prompt,
            request.negative_prompt or "" if shot.negative_prompt is None else shot.negative_prompt,
            has_input=has_input or shot.first_frame is not None or shot.last_frame is not None,
        )
        for shot in request.shots
    )


def film_prompts(spec: Spec) -> str:
    """Return the prompts of a film's shots, its style line once: with them its edits and extensions are checked."""
    texts = _spec_texts(spec)
    return "\n".join(dict.fromkeys(part for text in texts for part in (text.style, text.prompt) if part))


def _spec_texts(spec: Spec) -> tuple[CheckedText, ...]:
    return tuple(
        _shot_text(
            spec.style,
            shot.prompt,
            shot.negative_prompt,
            has_input=any((spec.video, shot.first_frame, shot.last_frame)),
        )
        for shot in spec.shots
    )


def _shot_text(style: str, prompt: str, negative_prompt: str, *, has_input: bool) -> CheckedText:
    """Return the words of a shot, its style line apart: that of fifty shots is read once."""
    prompt = styled(style, prompt)
    if style and prompt.startswith(f"{style}\n"):
        return CheckedText(prompt.removeprefix(f"{style}\n"), negative_prompt, has_input=has_input, style=style)
    return CheckedText(prompt, negative_prompt, has_input=has_input)


def _is_strict(caller: Caller) -> bool:
    return caller.account.moderation_level == ModerationLevel.STRICT


def _check(session: Session, caller: Caller, texts: tuple[CheckedText, ...]) -> TextCheck:
    if count_words(texts) > ORDER_WORDS_MAX:
        message = f"The prompts of an order may have {ORDER_WORDS_MAX:,} words together; shorten them."
        raise AppError("invalid_request", message, field="shots")
    strict = _is_strict(caller)
    check = check_rules(texts, strict=strict)
    if (check.finding is None or check.finding.outcome is Outcome.REVIEW) and has_server():
        commit_early(session)
        check = check_server(texts, check, strict=strict)
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
