"""Conventions that no linter checks."""

import ast
import re
import subprocess

import pytest

from tests.repo.sources import PACKAGES, ROOT, sources

TOP = {
    "pyproject.toml", "README.md", "Makefile", "constraints.txt", "CHANGELOG.md", "LICENSE",
    ".ci", "app", "workers", "pricing", "tests", "deploy",
}  # fmt: skip
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
# Migrations commit one revision after the other; nothing else of the application calls them.
EDGES = {"app/db.py", "app/cli/migrate.py", "app/migrations/env.py"}
SAYS_NOTHING = {"utils", "helpers", "common", "misc", "manager", "base_service", "util", "helper"}


def test_the_root_has_only_known_entries():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entries = {line.partition("/")[0] for line in listed.splitlines()}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP


def test_files_stay_short():
    long = {str(path): _lines(path) for path in sources() if _lines(path) > FILE_LINES_MAX}
    assert not long


def test_functions_stay_short():
    long = {}
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)
                if lines > FUNCTION_LINES_MAX:
                    long[f"{path}:{node.lineno} {node.name}"] = lines
    assert not long


def test_names_say_what_is_inside():
    assert not [str(path) for path in sources() if SAYS_NOTHING & {path.stem, *path.parent.parts}]


def test_only_the_edge_commits():
    """A function that commits would end its caller's transaction."""
    calls = [
        f"{path}:{node.lineno}"
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "commit" and str(path) not in EDGES
    ]
    assert not calls


def test_errors_are_codes_below_the_interfaces():
    for path, tree in sources().items():
        if path.parts[:2] not in (("app", "api"), ("app", "web")):
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert "HTTPException" not in names, path


def test_a_jobs_state_is_written_in_one_place():
    """Only `advance()` writes `job.state`; other tables have states of their own."""
    writers = [
        f"{path}:{node.lineno}"
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and target.attr == "state" and ast.unparse(target.value) == "job"
    ]
    assert [writer.partition(":")[0] for writer in writers] == ["app/jobs/states.py"]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_promises_what_it_does_not_do(package: str):
    promise = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    found = [
        f"{path}:{number}"
        for path in sources()
        if path.parts[0] == package
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if promise.search(line)
    ]
    assert not found


def test_no_test_stands_in_for_a_part_with_a_mock():
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name != "test_conventions.py":
            assert not re.search(r"unittest\.mock|import mock\b|mocker\b", path.read_text(encoding="utf-8")), path


def _lines(path) -> int:
    return (ROOT / path).read_text(encoding="utf-8").count("\n")


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or 0) - first.lineno + 1
    return 0
