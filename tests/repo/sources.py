"""The source modules, parsed once for the tests of conventions."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "pricing", "workers")


@cache
def sources() -> dict[Path, ast.Module]:
    """Return every module by its path from the root, except migrations, which do not change any more."""
    found = (path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {
        path: ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))
        for path in found
        if "versions" not in path.parts
    }


@cache
def sources_of_tests() -> dict[Path, ast.Module]:
    """Return every module of the tests by its path from the root."""
    found = sorted((ROOT / "tests").rglob("*.py"))
    return {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in found}


def imports(tree: ast.Module) -> set[str]:
    """Return the top-level names of everything that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names
