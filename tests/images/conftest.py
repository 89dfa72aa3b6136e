"""The engine, the installation on it, and what the tests print at their end. `make test-images` runs them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.building import OURS, Builder, foreign_images
from tests.images.engine import Engine, running_engine
from tests.images.first_start import start
from tests.images.installation import Installation, make_site, measure

_lines: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test-images` names the folder that has the images."""
    parser.addoption("--images-folder", type=Path, default=None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in _lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines that are printed after the tests."""
    return _lines


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config, report: list[str]) -> Iterator[Engine]:
    """Docker's engine with all images, and without containers of an earlier run."""
    folder = pytestconfig.getoption("images_folder", default=None)
    if folder is None:
        pytest.skip("make test-images runs these tests, in a network of their own")
    began = time.monotonic()
    with running_engine(folder) as engine:
        engine.clear()
        builder = Builder(folder)
        for name in (*OURS, *foreign_images()):
            engine.load(builder, name)
        engine.docker("image", "prune", "--force")
        report.append(f"dockerd with the images: {measure(began)}")
        yield engine
        engine.clear()


@pytest.fixture(scope="session")
def site(engine: Engine, pytestconfig: pytest.Config) -> Path:
    return make_site(pytestconfig.getoption("images_folder"))


@pytest.fixture(scope="session")
def installation(engine: Engine, site: Path, report: list[str]) -> Installation:
    """An installation after the first start of the runbook, with a customer who has money and a key."""
    installation = Installation(engine, site)
    start(installation, report)
    return installation
