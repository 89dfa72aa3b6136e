"""Tiny model folders are built once per test process."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.workers.engine.tiny_kandinsky6 import build_tiny_kandinsky6
from tests.workers.engine.tiny_wan import build_tiny_wan

# Several threads on a few busy cores wait for one another longer than these models compute.
torch.set_num_threads(1)

TinyWan = Callable[..., Path]
TinyKandinsky6 = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny_wan(tmp_path_factory: pytest.TempPathFactory) -> TinyWan:
    """Return a function that gives the folder of a tiny model of a family, built at its first use."""
    built: dict[tuple[str, bool], Path] = {}

    def folder(family: str, *, unipc: bool = True) -> Path:
        if (family, unipc) not in built:
            built[family, unipc] = build_tiny_wan(family, tmp_path_factory.mktemp("tiny") / family, unipc=unipc)
        return built[family, unipc]

    return folder


@pytest.fixture(scope="session")
def tiny_k6(tmp_path_factory: pytest.TempPathFactory) -> TinyKandinsky6:
    """Return a function that gives the folder of a tiny Kandinsky 6, `base` or `distilled`, built at its first use."""
    built: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in built:
            built[kind] = build_tiny_kandinsky6(kind, tmp_path_factory.mktemp("tiny") / kind)
        return built[kind]

    return folder
