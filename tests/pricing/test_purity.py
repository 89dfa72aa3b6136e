"""Prices are arithmetic: the standard library only, no clock, no float, no file but the shipped books."""

import ast
import sys
from pathlib import Path

import pricing

FILES = sorted(Path(pricing.__file__).parent.rglob("*.py"))
# What would let a price depend on anything but its arguments, or lose a digit.
FORBIDDEN = {"os", "random", "time", "socket", "threading", "math", "statistics", "subprocess", "secrets"}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module.split(".")[0]


def test_only_the_standard_library_is_imported():
    assert len(FILES) > 10
    for path in FILES:
        names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
        assert names <= (set(sys.stdlib_module_names) - FORBIDDEN) | {"pricing"}, path


def test_no_float_and_no_clock_is_named():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), path
            assert not (isinstance(node, ast.Name) and node.id == "float"), path
            assert not (isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")), path
