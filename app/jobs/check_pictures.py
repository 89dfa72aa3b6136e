"""Check files by the policy's checkers of pictures: each distinct file once, by a few frames, within a bounded time."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.assets.limits import RefusedError
from app.assets.sample_frames import sample_frames
from app.concurrency import ConcurrencyLimit
from app.db import transaction
from app.errors import AppError
from app.metrics import PICTURE_CHECK_SECONDS, PICTURES_CHECKED
from app.moderation.check import NO_FRAMES, UNCHECKED, count_check, without_review
from app.moderation.checked_files import remember_answer, remembered_answers
from app.moderation.checker_interface import PictureAnswer, PictureChecker
from app.moderation.outcomes import CheckFailed, CheckStage, Finding, Outcome, graver
from app.moderation.picture_checkers import failed_answer
from app.moderation.policy import moderation_policy

# Orders of an account, and of a process, whose pictures are checked at once: each has two processes at most.
_check_slot = ConcurrencyLimit("files", "checked", each=4, together=8).hold
# Files that a checker is asked about at once, at most: each batch starts its processes.
_BATCH_MAX = 8


@dataclass(frozen=True)
class PictureFile:
    """A file that is to be checked: its hash (SHA-256, hex), and what writes its bytes to a path."""

    sha256: str
    fetch: Callable[[Path], object]


@dataclass(frozen=True)
class PicturesCheck:
    """What the checkers said. `against` is the gravest of what they do not allow, with the file's hash.

    `unchecked` is what could not be checked and is allowed; `checked_by` names the checkers and their versions.
    """

    against: tuple[str, Finding] | None
    unchecked: tuple[Finding, ...]
    checked_by: tuple[str, ...]


def check_pictures(
    files: Sequence[PictureFile],
    checkers: Sequence[PictureChecker],
    stage: CheckStage,
    *,
    owner: str,
    strict: bool = False,
) -> PicturesCheck:
    """Check files by one checker after the other, until one of them refuses a file.

    Call it without a transaction. `owner` is the account; where it is `strict`, what others have reviewed is refused to
    it. What each checker says of a file is remembered, except where it failed. Raises AppError `rate_limited` and
    `unavailable` while too many files are being checked.
    """
    distinct = {file.sha256: file for file in files}
    with transaction() as session:
        known = remembered_answers(session, distinct.keys(), [checker.fingerprint for checker in checkers])
    gravest: tuple[str, Finding] | None = None
    unchecked: list[Finding] = []
    checked_by: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cinemeter-checked-") as folder:
        frames = _Frames(distinct, Path(folder))
        for checker in checkers:
            fresh = [sha256 for sha256 in distinct if (sha256, checker.fingerprint) not in known]
            answers = {sha256: known[sha256, checker.fingerprint] for sha256 in distinct if sha256 not in fresh}
            if fresh:
                with _check_slot(owner), PICTURE_CHECK_SECONDS.labels(stage, checker.name).time():
                    answers |= _ask(checker, fresh, frames)
            _count(stage, checker.name, [answers[sha256] for sha256 in fresh], known=len(distinct) - len(fresh))
            checked_by.append(f"{checker.name} pictures {next(iter(answers.values())).version}".rstrip())
            findings = {sha256: each.finding for sha256, each in answers.items() if each.finding is not None}
            unchecked += [each for each in findings.values() if each.outcome is Outcome.ALLOW][:1]
            for sha256, finding in findings.items():
                gravest = _graver(gravest, sha256, without_review(finding) if strict else finding)
            if gravest is not None and gravest[1].outcome is Outcome.REFUSE:
                break
    return PicturesCheck(gravest, tuple(unchecked), tuple(checked_by))


def _count(stage: CheckStage, checker: str, answers: Sequence[PictureAnswer], *, known: int) -> None:
    """Count what a checker said of files that were new to it, and those that it had seen before."""
    PICTURES_CHECKED.labels(stage, checker, "known").inc(known)
    for answer in answers:
        failure = answer.finding.rule if answer.finding is not None and answer.finding.category == UNCHECKED else None
        name = "failed" if failure is not None else "allowed" if answer.finding is None else "against"
        PICTURES_CHECKED.labels(stage, checker, name).inc()
        count_check(stage, checker, failure)


def _graver(before: tuple[str, Finding] | None, sha256: str, finding: Finding | None) -> tuple[str, Finding] | None:
    """Return the graver of what is known and a finding about a file; what is allowed does not count.

    Of two that are equally grave, one about what a file shows goes before one that could not be checked.
    """
    if finding is None or finding.outcome is Outcome.ALLOW:
        return before
    if before is not None and before[1].category == UNCHECKED and before[1].outcome is finding.outcome:
        return sha256, finding
    return (sha256, finding) if before is None or graver(before[1], finding) is finding else before


class _Frames:
    """The frames of files, sampled when a checker first needs them, and the time that is left for all checkers."""

    def __init__(self, files: dict[str, PictureFile], folder: Path) -> None:
        self._files, self._folder = files, folder
        self._policy = moderation_policy().pictures
        self._deadline = time.monotonic() + self._policy.seconds
        self._frames: dict[str, list[Path]] = {}

    def new_folder(self) -> Path:
        """Return an empty folder, which is removed with the frames."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    def seconds_left(self) -> float:
        """Return the seconds that are left. Raises CheckFailed where there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise CheckFailed("timeout")
        return left

    def of(self, sha256s: Sequence[str]) -> list[list[Path]]:
        """Return the frames of files, none of a damaged one. Raises CheckFailed."""
        self.seconds_left()
        missing = [sha256 for sha256 in sha256s if sha256 not in self._frames]
        if missing:
            received = self.new_folder()
            paths = [received / str(number) for number in range(len(missing))]
            try:
                for sha256, path in zip(missing, paths, strict=True):
                    self._files[sha256].fetch(path)
                    self.seconds_left()
                terms = {"count": self._policy.frames, "side_max": self._policy.side_max}
                sampled = sample_frames(paths, self.new_folder(), seconds=self.seconds_left(), **terms)
            except (RefusedError, AppError, OSError) as error:
                raise CheckFailed(NO_FRAMES) from error
            self._frames |= dict(zip(missing, sampled, strict=True))
        return [self._frames[sha256] for sha256 in sha256s]


def _ask(checker: PictureChecker, sha256s: Sequence[str], frames: _Frames) -> dict[str, PictureAnswer]:
    """Return a checker's answers to files that are new to it, and remember them. Where it fails, the policy answers.

    It is asked about one file, then about growing batches: what was answered in time is known to the next try. Files of
    a batch that fails are asked about anew, so that none of them fails with another.
    """
    answers: dict[str, PictureAnswer] = {}
    rest, size = list(sha256s), 1
    while rest:
        batch = rest[:size]
        try:
            answers |= _ask_batch(checker, batch, frames)
        except CheckFailed as failure:
            if len(batch) > 1:
                size = 1
                continue
            answers[batch[0]] = failed_answer(checker, failure)
        rest, size = rest[size:], min(2 * size, _BATCH_MAX)
    return answers


def _ask_batch(checker: PictureChecker, sha256s: Sequence[str], frames: _Frames) -> dict[str, PictureAnswer]:
    """Return a checker's answers to some files, and remember them except failures. Raises CheckFailed."""
    sampled = {sha256: each for sha256, each in zip(sha256s, frames.of(sha256s), strict=True) if each}
    readable = [*sampled.values()]
    news = checker.check(readable, frames.new_folder(), seconds=frames.seconds_left()) if readable else []
    news_of = dict(zip(sampled, news, strict=True))
    answers: dict[str, PictureAnswer] = {}
    with transaction() as session:
        for sha256 in sorted(sha256s):
            answer = news_of.get(sha256, CheckFailed(NO_FRAMES))
            if isinstance(answer, CheckFailed):
                answer = failed_answer(checker, answer)
            else:
                remember_answer(session, sha256, checker, answer)
            answers[sha256] = answer
    return answers
