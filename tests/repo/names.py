"""Rules about names, as functions over parsed modules, so that a test can break each of them on purpose."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

Modules = dict[Path, ast.Module]

# Participles say that something happened to a value, not what it is.
PARTICIPLES = frozenset(
    [
        "found",
        "told",
        "made",
        "given",
        "asked",
        "taken",
        "said",
        "sent",
        "kept",
        "held",
        "written",
        "shown",
        "meant",
        "chosen",
    ]
)
# Columns and fields keep such names, so a few stay; four well-kept projects have 0.0 to 0.4 %.
PARTICIPLE_SHARE_MAX = 0.007
# Words that this code once used in a sense of its own, with the field's word for each.
DIALECT = {
    "aside": "background",
    "bell": "wake-up",
    "desk": "worker loop",
    "door": "interface",
    "doorbell": "wake-up",
    "doors": "api",
    "klass": "priority",
    "letter": "invitation or mail",
    "mend": "repair",
    "paper": "price document",
    "papers": "price documents",
    "parcel": "delivery request",
    "roster": "worker registry",
}


def shared_class_names(modules: Modules) -> dict[str, list[str]]:
    """Return public classes whose name several modules define, with those modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def take_verbs(modules: Modules) -> list[str]:
    """Return functions whose verb is `take`; a Take is a noun here, one leased try at a unit."""
    return [
        f"{path}:{node.lineno} {node.name}" for path, node in _functions(modules) if re.match(r"_*take(_|$)", node.name)
    ]


def dialect_names(modules: Modules) -> list[str]:
    """Return modules, classes and functions whose names hold a word that the field does not use in this sense."""
    hits = [str(path) for path in modules if DIALECT.keys() & set(path.stem.split("_"))]
    for path, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", node.name)}
                if DIALECT.keys() & words:
                    hits.append(f"{path}:{node.lineno} {node.name}")
    return hits


def participle_locals(modules: Modules) -> tuple[list[str], int]:
    """Return where a stored name or a parameter is a bare participle, and how many names are stored in all.

    Fields of classes are not counted: they are columns and wire formats, whose names stay.
    """
    hits: list[str] = []
    total = 0
    for path, tree in modules.items():
        fields = {
            id(statement.target)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for statement in node.body
            if isinstance(statement, ast.AnnAssign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
                total += 1
                if node.id.strip("_") in PARTICIPLES:
                    hits.append(f"{path}:{node.lineno} {node.id}")
            elif isinstance(node, ast.arg):
                total += 1
                if node.arg.strip("_") in PARTICIPLES:
                    hits.append(f"{path}:{node.lineno} {node.arg}")
    return hits, total


def _functions(modules: Modules) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node
