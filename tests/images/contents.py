"""Print what Python packages an image has, as JSON. It runs in the image, on what is there."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

INSTALLER = {"pip", "setuptools"}


def canonical(name: str) -> str:
    """Return the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(root: str, extras: set[str]) -> set[str]:
    """Return the distributions that one needs with these extras, and what those need.

    Other conditions (versions, systems) are taken to hold: what they exclude is not installed anyway.
    """
    names: set[tuple[str, str]] = set()
    rest = [(root, extra) for extra in ("", *extras)]
    while rest:
        name, extra = rest.pop()
        if (name, extra) in names:
            continue
        names.add((name, extra))
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in requirements:
            match = re.match(r"([\w.-]+)(?:\[([^]]*)\])?", line)
            conditions = re.findall(r"extra == ['\"]([\w.-]+)['\"]", line)
            if match is not None and (not conditions or extra in conditions):
                rest += [(canonical(match[1]), wish.strip()) for wish in ("", *(match[2] or "").split(","))]
    return {name for name, _ in names}


def size(distribution: metadata.Distribution) -> int:
    """Return the bytes of a distribution's files."""
    paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def main(extras: set[str]) -> None:
    """Print the sizes by distribution, and the distributions that nobody needs."""
    sizes = {canonical(each.metadata["Name"]): size(each) for each in metadata.distributions()}
    print(json.dumps({"sizes": sizes, "unneeded": sorted(set(sizes) - needed("cinemeter", extras) - INSTALLER)}))


if __name__ == "__main__":
    main(set(sys.argv[1:]))
