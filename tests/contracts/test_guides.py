"""The code of the guides at /docs, run as a reader would after setting the key: what is marked `run`, in its order."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.web.docs import GUIDES, WRITTEN_BASE
from app.web.markdown import code_blocks
from tests.live_service import Service

pytestmark = pytest.mark.xdist_group("service")

PROGRAMS = {"sh": ["sh", "-eu"], "python": [sys.executable, "-"]}


def blocks(name: str, base: str = WRITTEN_BASE) -> list[tuple[str, str]]:
    """Return the language and the code of what runs in a guide."""
    text = Path("app/web/guides", f"{name}.md").read_text(encoding="utf-8").replace(WRITTEN_BASE, base)
    return [(info.removesuffix(" run"), code) for info, code in code_blocks(text) if info.endswith(" run")]


def test_every_guide_has_code_that_runs():
    assert all(blocks(name) for name in GUIDES)


def test_waiting_for_a_film_ends_where_the_service_refuses(service: Service, tmp_path: Path):
    [wait] = [code for _, code in blocks("quickstart", service.base_url) if "sleep" in code]
    (tmp_path / "order.json").write_text('{"id": "video_1"}')
    environment = {**os.environ, "CINEMETER_API_KEY": "cm_live_wrong"}  # noqa: TID251
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(PROGRAMS["sh"], input=wait, timeout=60, check=False, **options)
    assert "401" in done.stderr, "the loop has ended, and curl has said why"


@pytest.mark.parametrize("name", GUIDES)
def test_the_code_of_a_guide_runs(service: Service, tmp_path: Path, name: str):
    environment = {**os.environ, "CINEMETER_API_KEY": service.keys["pro"], "PYTHONWARNINGS": "ignore"}  # noqa: TID251
    for language, code in blocks(name, service.base_url):
        done = subprocess.run(
            PROGRAMS[language],
            input=code,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    if name == "quickstart":
        assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"
    if name == "webhooks":
        # It would get the events of other tests' films.
        endpoints = httpx.get(
            f"{service.base_url}/v1/webhook_endpoints", headers={"authorization": f"Bearer {service.keys['pro']}"}
        )
        assert "https://example.com/hook" not in endpoints.raise_for_status().text
