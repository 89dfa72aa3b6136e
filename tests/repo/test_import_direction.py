"""`make check` holds the import direction: each kind of forbidden import is tried, and each is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.sources import PACKAGES, ROOT

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, in which a forbidden import can be tried."""
    copy = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(house)},
    )


def test_the_house_as_it_is_keeps_every_contract(house: Path):
    answer = lint(house)
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
def test_a_forbidden_import_is_refused(house: Path, module: str, line: str):
    file = house / module
    before = file.read_text(encoding="utf-8")
    file.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        answer = lint(house)
        assert answer.returncode == 1
        assert "BROKEN" in answer.stdout
    finally:
        file.write_text(before, encoding="utf-8")


def test_a_new_room_without_a_floor_is_refused(house: Path):
    room = house / "app" / "utils"
    room.mkdir()
    (room / "__init__.py").touch()
    try:
        assert lint(house).returncode == 1
    finally:
        shutil.rmtree(room)
