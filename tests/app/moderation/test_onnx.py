"""The operator's classifier in its confined process: what it says, and what it may do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.moderation.checker_interface import PictureAnswer
from app.moderation.onnx_pictures import OnnxPictures
from app.moderation.outcomes import CheckFailed, Outcome
from app.moderation.picture_checkers import require_checkers, shows_unchecked
from app.moderation.picture_policy import OnnxPolicy, PicturesPolicy
from app.settings import get_settings
from tests.app.moderation.networks import write_network

LABELS: tuple[dict[str, Any], ...] = (
    {"name": "red", "refuse": 0.7, "review": 0.4},
    {"name": "green", "review": 0.6},
    {"name": "blue"},
)
# As long as may be: a busy machine is no failure of the model.
SECONDS = 30


def checker(model: Path, **fields: Any) -> OnnxPictures:
    terms = {"input_size": (16, 16), "labels": LABELS, "timeout_seconds": SECONDS, **fields}
    return OnnxPictures(OnnxPolicy.model_validate({"model": model, **terms}), PicturesPolicy())


def answers_of(model: OnnxPictures, files: list[list[Path]], folder: Path) -> list[PictureAnswer]:
    """Check files none of which fails."""
    answers = model.check(files, folder, seconds=SECONDS)
    return [each for each in answers if isinstance(each, PictureAnswer)]


def frame(path: Path, colour: tuple[int, int, int]) -> Path:
    Image.fromarray(np.full((90, 160, 3), colour, np.uint8)).save(path, format="JPEG", quality=95)
    return path


def test_the_worst_frame_of_a_file_decides_by_the_thresholds(tmp_path: Path) -> None:
    red, pink, green, blue = (
        frame(tmp_path / f"{number}.jpg", colour)
        for number, colour in enumerate([(250, 0, 0), (128, 0, 0), (0, 250, 0), (0, 0, 250)])
    )
    model = checker(write_network(tmp_path / "colours.onnx"))
    answers = answers_of(model, [[blue, red], [pink, green], [green], [blue]], tmp_path)
    outcomes = [None if each.finding is None else (each.finding.outcome, each.finding.category) for each in answers]
    assert outcomes == [(Outcome.REFUSE, "red"), (Outcome.REVIEW, "green"), (Outcome.REVIEW, "green"), None]
    assert answers[0].finding is not None
    assert answers[0].finding.score == pytest.approx(250 / 255, abs=0.02)
    assert {each.version for each in answers} == {model._version}
    # Normalised and activated as the policy says, a picture has other scores.
    other = checker(tmp_path / "colours.onnx", mean=(1, 1, 1), std=(0.01, 0.01, 0.01), activation="sigmoid")
    assert answers_of(other, [[pink]], tmp_path)[0].finding is None
    even = checker(tmp_path / "colours.onnx", std=(0.01, 0.01, 0.01), activation="softmax", version="mine-1")
    answer = answers_of(even, [[pink]], tmp_path)[0]
    assert answer.finding is not None
    assert (answer.finding.outcome, answer.version) == (Outcome.REFUSE, "mine-1")


def test_what_may_change_an_answer_changes_the_fingerprint(tmp_path: Path) -> None:
    model = write_network(tmp_path / "colours.onnx")
    first = checker(model).fingerprint
    assert checker(model, timeout_seconds=1, memory_mib=512, on_failure="open").fingerprint == first
    others = [
        checker(write_network(tmp_path / "few.onnx", "few")),
        checker(model, mean=(0.5, 0.5, 0.5)),
        checker(model, labels=({"name": "red", "refuse": 0.71}, *LABELS[1:])),
    ]
    assert len({first, *(each.fingerprint for each in others)}) == 4


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("few", "bad_answer"),
        ("large", "bad_answer"),
        ("nothing", "bad_answer"),
        ("memory", "crashed"),
        ("hang", "timeout"),
    ],
)
def test_a_model_that_misbehaves_fails_in_its_own_process(tmp_path: Path, kind: str, code: str) -> None:
    model = checker(write_network(tmp_path / "model.onnx", kind))
    seconds = 4 if kind == "hang" else SECONDS
    with pytest.raises(CheckFailed, match=code):
        model.check([[frame(tmp_path / "a.jpg", (9, 9, 9))]], tmp_path, seconds=seconds)


def test_what_is_no_model_fails_and_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"not a model")
    with pytest.raises(CheckFailed, match="crashed"):
        checker(tmp_path / "text.onnx").check([[frame(tmp_path / "a.jpg", (9, 9, 9))]], tmp_path, seconds=SECONDS)
    for fields in ({"labels": ({"name": "red"},)}, {"std": (1, 0, 1)}, {"labels": ()}, {"layout": "chwn"}):
        with pytest.raises(ValueError, match="validation error"):
            checker(tmp_path / "text.onnx", **fields)


def test_a_process_without_its_classifier_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"[onnx]\nmodel = '{tmp_path}/none.onnx'\nlabels = [{{name = 'red', refuse = 0.5}}]\n")
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
    get_settings.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="cannot be read"):
            require_checkers()
        # Others do without it, and show nothing of a film that will be checked.
        assert not shows_unchecked()
        write_network(tmp_path / "none.onnx")
        require_checkers()
    finally:
        get_settings.cache_clear()
