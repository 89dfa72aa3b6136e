"""Check the words and files of an order before anything is written or held: what must not be made is refused here."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.assets.tables import Asset
from app.db import commit_early
from app.errors import AppError
from app.jobs.check_files import check_files
from app.jobs.idempotency import CheckedOrder, OrderIdentity, earlier_job
from app.jobs.order_restraints import restraint
from app.jobs.record_finding import record_finding, refusal
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec, styled
from app.moderation.check import TextCheck, check_rules, check_server, count_words, has_server
from app.moderation.outcomes import CheckedText, CheckStage, Finding, Outcome

# No storyboard has as many; the time of a check grows with them.
ORDER_WORDS_MAX = 60_000


def check_order(
    session: Session,
    caller: Caller,
    order: OrderIdentity,
    *,
    has_files: bool = False,
    new_files: Sequence[Asset] = (),
) -> OrderIdentity:
    """Return an order whose words and files were checked: by the rules, and by what the operator's policy names.

    `has_files`: whether pictures or clips were uploaded with it, `new_files`: those of its assets that have no row yet.
    What was checked before is not checked again. Servers and classifiers are waited for without a transaction: what the
    session has done before is committed first, as it is before a refusal is recorded. A repeated call is left to
    `submit`, which returns its job. What is to be reviewed is accepted. Raises AppError `content_refused` with stage
    and category, and `unavailable` where a checker does not answer and the policy is closed.
    """
    texts = order_texts(order, has_files=has_files)
    checked = order.checked
    if checked is None or checked.texts != texts:
        check = _check(session, caller, texts)
        checked = CheckedOrder(texts, check.checked_by)
        if check.finding is not None:
            checked = _decide(session, caller, order, checked, check.finding, CheckStage.PROMPT)
    if checked.finding is None or checked.review is not None:
        files = check_files(session, caller, order, checked, new_files)
        checked = files.checked
        if files.finding is not None:
            checked = _decide(session, caller, order, checked, files.finding, CheckStage.INPUT, field=files.field)
    return order if checked is order.checked else replace(order, checked=checked)


def _decide(
    session: Session,
    caller: Caller,
    order: OrderIdentity,
    checked: CheckedOrder,
    finding: Finding,
    stage: CheckStage,
    *,
    field: str | None = None,
) -> CheckedOrder:
    """Return the check of an order with what stands against it, or record that and raise the AppError of a refusal.

    Of two findings that call for a review, the first is what a moderator is asked.
    """
    if finding.outcome is Outcome.REVIEW:
        return checked if checked.review is not None else replace(checked, finding=finding, stage=stage)
    is_refused = finding.outcome is Outcome.REFUSE
    # A call that was accepted stays accepted, whatever the rules say by now.
    if is_refused and earlier_job(session, caller, replace(order, is_first_try=False)) is not None:
        return replace(checked, finding=finding, stage=stage)
    record_finding(session, caller, finding, stage, order.door)
    if is_refused:
        raise refusal(finding, stage, field=field)
    return checked


def check_request(
    session: Session, caller: Caller, request: VideoRequest, *, has_files: bool = False, interface: str = "native"
) -> None:
    """Check the words of a request that is to be quoted, as `check_order` does those of an order.

    A quote is no order yet: what is to be reviewed is quoted. Raises AppError `orders_stopped` too.
    """
    restraint(session, caller)
    finding = _check(session, caller, request_texts(request, has_files=has_files)).finding
    if finding is not None and finding.outcome is not Outcome.REVIEW:
        record_finding(session, caller, finding, CheckStage.PROMPT, interface)
        if finding.outcome is Outcome.REFUSE:
            raise refusal(finding, CheckStage.PROMPT)


def require_checked(caller: Caller, order: OrderIdentity) -> OrderIdentity:
    """Return an order that is about to be written, with the check of its words.

    One whose words nobody has checked is checked by the rules. Raises AppError `content_refused`, and RuntimeError
    where the operator's server ought to have checked it before: it cannot be waited for here.
    """
    texts = order_texts(order)
    if order.checked is None or order.checked.texts != texts:
        if has_server():
            raise RuntimeError("an order reached its transaction before the moderation server was asked")
        check = check_rules(texts, strict=caller.is_strict)
        order = replace(order, checked=CheckedOrder(texts, check.checked_by, check.finding))
    checked = order.checked
    if checked is not None and checked.finding is not None and checked.review is None:
        raise refusal(checked.finding, checked.stage)
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


def _check(session: Session, caller: Caller, texts: tuple[CheckedText, ...]) -> TextCheck:
    if count_words(texts) > ORDER_WORDS_MAX:
        message = f"The prompts of an order may have {ORDER_WORDS_MAX:,} words together; shorten them."
        raise AppError("invalid_request", message, field="shots")
    strict = caller.is_strict
    check = check_rules(texts, strict=strict)
    if (check.finding is None or check.finding.outcome is Outcome.REVIEW) and has_server():
        commit_early(session)
        check = check_server(texts, check, strict=strict)
    return check
