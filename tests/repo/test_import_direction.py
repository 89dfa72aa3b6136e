"""The import contracts refuse each kind of forbidden import."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.sources import PACKAGES, ROOT

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, in which a forbidden import can be tried."""
    copy = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout)},
    )


def test_the_sources_keep_every_import_contract(checkout: Path):
    answer = lint(checkout)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("app/jobs/submit.py", "import workers.tasks"),
        ("pricing/price.py", "import app.clock"),
        ("pricing/money.py", "import sqlalchemy"),
        ("app/events/record.py", "import app.jobs.submit"),
        ("app/wallet/hold.py", "import app.prices.find"),
        ("app/api/application.py", "import torch"),
        ("app/jobs/quote.py", "import boto3"),
        ("app/jobs/settle.py", "import celery"),
        ("app/assets/find.py", "import av"),
        ("app/webhooks/fanout.py", "import aiohttp"),
        ("workers/segment_take.py", "import torch"),
        ("workers/tasks.py", "import ffmpeg"),
    ],
)
def test_a_forbidden_import_is_refused(checkout: Path, module: str, line: str):
    file = checkout / module
    before = file.read_text(encoding="utf-8")
    file.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        answer = lint(checkout)
        assert answer.returncode == 1
        assert "BROKEN" in answer.stdout
    finally:
        file.write_text(before, encoding="utf-8")


def test_a_new_package_without_a_layer_is_refused(checkout: Path):
    room = checkout / "app" / "utils"
    room.mkdir()
    (room / "__init__.py").touch()
    try:
        assert lint(checkout).returncode == 1
    finally:
        shutil.rmtree(room)
