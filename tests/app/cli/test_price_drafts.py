"""Price book drafts on the command line: draft, diff, simulate, approve."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.audit_log.log import list_entries
from app.cli.main import app
from app.cli.seed import seed
from app.clock import local_now
from app.db import transaction
from pricing.books import read_shipped
from tests.app.prices.price_documents import book_text


@pytest.fixture
def home(database_url: str, redis_url: str, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    seed(home)
    return home


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_book_is_drafted_compared_tried_and_approved(home: Path, tmp_path: Path) -> None:
    file, shipped = tmp_path / "summer.toml", tmp_path / "shipped.toml"
    file.write_text(book_text("summer", tax="0.09"), encoding="utf-8")
    shipped.write_text(read_shipped(), encoding="utf-8")

    both = run("prices", "diff", file, shipped)
    assert both.exit_code == 0, both.output
    assert "tax rate from 0.09 to 0.06 (-33.33 %)" in both.output
    against_force = run("prices", "diff", file, "--home", home)
    assert "tax rate from 0.06 to 0.09 (+50.00 %)" in against_force.output

    tried = run("prices", "simulate", file, "--json", "--home", home)
    assert tried.exit_code == 0, tried.output
    result = json.loads(tried.stdout)
    assert (result["book"]["name"], result["whole"]["jobs"]) == ("summer", 0)
    table = run("prices", "simulate", file, "--since", "2026-05-01", "--until", "2026-06-01", "--home", home)
    assert "margin 0.00 before, 0.00 after" in table.output

    drafted = run("prices", "draft", file, "--note", "a try", "--home", home)
    assert drafted.exit_code == 0, drafted.output
    stored = re.match(r"(book_\w+): summer is a draft; (sha256:\w+)", drafted.output)
    assert stored is not None
    edited = run("prices", "approve", stored[1], "--content-hash", "sha256:other", "--home", home)
    assert edited.exit_code == 1
    assert "edited since" in edited.output
    approved = run("prices", "approve", stored[1], "--content-hash", stored[2], "--home", home)
    assert approved.exit_code == 0, approved.output
    assert "summer is approved" in approved.output

    at = (local_now() + timedelta(days=1)).isoformat()
    published = run("prices", "publish", stored[1], "--effective-at", at, "--home", home)
    assert published.exit_code == 0, published.output
    assert "summer takes effect" in published.output
    assert f"{stored[1]}\tsummer\tscheduled" in run("prices", "list", "--home", home).stdout
    withdrawn = run("prices", "withdraw", stored[1], "--reason", "too dear", "--home", home)
    assert "summer is withdrawn" in withdrawn.output
    assert run("prices", "withdraw", stored[1], "--reason", "again", "--home", home).exit_code == 1


def test_an_approval_names_the_last_simulation_of_the_text_that_it_approves(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "summer.toml"
    file.write_text(book_text("summer", tax="0.09"), encoding="utf-8")
    book_id, content_hash = re.findall(r"(book_\w+)|(sha256:\w+)", run("prices", "draft", file, "--home", home).output)
    for _ in range(2):
        assert run("prices", "simulate", book_id[0], "--home", home).exit_code == 0
    assert run("prices", "approve", book_id[0], "--content-hash", content_hash[1], "--home", home).exit_code == 0
    with transaction() as session:
        approved, last, *_ = list_entries(session, subject=book_id[0])
    assert (approved.act, last.act) == ("book.approved", "book.simulated")
    assert approved.facts["simulation"] == last.number
    assert last.facts["content_hash"] == approved.facts["content_hash"] == content_hash[1]


def test_a_file_is_published_completely_or_not_at_all(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "summer.toml"
    file.write_text(book_text("summer"), encoding="utf-8")
    past = run("prices", "publish", file, "--effective-at", "2026-01-01T00:00:00+08:00", "--home", home)
    assert past.exit_code == 1
    assert "summer" not in run("prices", "list", "--home", home).stdout


def test_a_broken_book_is_not_drafted(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(book_text("broken").replace('factor = "0.65"', "factor = 0.65"), encoding="utf-8")
    refused = run("prices", "draft", file, "--home", home)
    assert refused.exit_code == 1
    assert "factor" in refused.output
