import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.errors import AppError
from app.jobs.states import FINAL, TRANSITIONS, JobState, advance

AT = datetime(2026, 5, 1, tzinfo=UTC)


def job(state: JobState) -> SimpleNamespace:
    return SimpleNamespace(state=str(state), started_at=None, finished_at=None)


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("to", JobState)
def test_advance_allows_exactly_the_moves_of_the_table(state: JobState, to: JobState) -> None:
    row = job(state)
    if to in TRANSITIONS[state]:
        advance(row, to, at=AT)
        assert row.state == to
    else:
        with pytest.raises(AppError) as refused:
            advance(row, to, at=AT)
        assert refused.value.code == ("already_final" if state in FINAL else "conflict")
        assert row.state == state


def test_the_moments_of_start_and_end_are_stamped() -> None:
    row = job(JobState.QUEUED)
    advance(row, JobState.IN_PROGRESS, at=AT)
    assert (row.started_at, row.finished_at) == (AT, None)
    advance(row, JobState.COMPLETED, at=AT)
    assert row.finished_at == AT


def test_the_diagram_in_the_readme_is_this_table() -> None:
    text = (Path(__file__).parents[3] / "deploy" / "reference.md").read_text(encoding="utf-8")
    diagram = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", text, re.DOTALL)
    assert diagram is not None, "deploy/reference.md has no state diagram"
    drawn = set(re.findall(r"^\s*(\w+) --> (\w+)", diagram[1], re.MULTILINE))
    table = {(str(state), str(to)) for state, moves in TRANSITIONS.items() for to in moves}
    assert drawn == table
