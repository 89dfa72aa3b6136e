"""`cinemeter models`: the list, and terms that are shown, accepted and logged."""

from pathlib import Path

import pytest

from app.audit_log.log import list_entries
from app.db import transaction
from tests.app.cli.test_commands import home, run  # noqa: F401 (a fixture)

MODEL = "kandinsky6-lite"


def test_the_list_says_which_terms_are_to_be_accepted(home: Path) -> None:  # noqa: F811
    lines = [line.split("\t") for line in run("models", "list", "--home", home).stdout.splitlines()]
    states = {line[0]: line[1:] for line in lines}
    assert states["demo"] == ["enabled", "Apache-2.0", "-"]
    assert states[MODEL] == ["disabled", "MIT; sound codec unclear", "terms to accept"]


def test_terms_are_shown_and_accepted(home: Path) -> None:  # noqa: F811
    answer = run("models", "acknowledge", MODEL, "--yes", "--home", home)
    assert answer.exit_code == 0, answer.output
    assert "CC-BY-NC-4.0" in answer.output
    assert f"The terms of {MODEL} are accepted." in answer.output
    assert (
        f"{MODEL}\tdisabled\tMIT; sound codec unclear\tterms accepted" in run("models", "list", "--home", home).stdout
    )
    with transaction() as session:
        [entry] = list_entries(session, subject=MODEL)
        assert entry.act == "model.terms_acknowledged"
    assert run("models", "acknowledge", MODEL, "--yes", "--home", home).exit_code == 1, "they are accepted already"


@pytest.mark.parametrize("model", ["demo", "no-such-model"])
def test_a_model_without_terms_has_none_to_accept(home: Path, model: str) -> None:  # noqa: F811
    answer = run("models", "acknowledge", model, "--yes", "--home", home)
    assert answer.exit_code == 1
    assert "There is no model with terms" in answer.output


def test_terms_are_not_accepted_without_a_yes(home: Path) -> None:  # noqa: F811
    assert run("models", "acknowledge", MODEL, "--home", home).exit_code == 1
    with transaction() as session:
        assert list_entries(session, subject=MODEL) == []
