"""One word, one meaning: values are named by nouns and functions by verbs, in the field's terms."""

import ast
from pathlib import Path

import pytest

from tests.repo.names import (
    PARTICIPLE_SHARE_MAX,
    dialect_names,
    participle_locals,
    shared_class_names,
    take_verbs,
)
from tests.repo.sources import sources


def test_no_two_public_classes_share_a_name():
    assert not shared_class_names(sources())


def test_no_verb_is_take():
    assert not take_verbs(sources())


def test_names_use_the_terms_of_the_field():
    assert not dialect_names(sources())


def test_local_variables_are_nouns():
    hits, total = participle_locals(sources())
    assert len(hits) / total <= PARTICIPLE_SHARE_MAX, hits


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        (shared_class_names, "class Lane: ...", "class Lane: ..."),
        (take_verbs, "def take_order(): ...", "class Door:\n    def _take(self): ..."),
        (dialect_names, "class Doorbell: ...", "def ring_the_bell(): ..."),
        (lambda modules: participle_locals(modules)[0], "found = 1", "def read(told): ..."),
    ],
)
def test_each_rule_detects_what_breaks_it(rule, first: str, second: str):
    assert rule({Path("app/one.py"): ast.parse(first), Path("app/two.py"): ast.parse(second)})
    assert not rule({Path("app/one.py"): ast.parse("class Job:\n    held: int\n\ndef close_take(job): ...")})
