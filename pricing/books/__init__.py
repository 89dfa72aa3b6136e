"""The price books that ship with Cinemeter: dated, commented, each with its own worked examples."""

from importlib import resources

DEFAULT = "2026-04-27"


def read_shipped(name: str = DEFAULT) -> str:
    """Return the TOML text of a shipped book. Raises FileNotFoundError for a name that is not shipped."""
    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def shipped() -> list[str]:
    """Return the names of the shipped books, oldest first."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))
