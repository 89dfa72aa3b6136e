"""The operator's commands, run as on the command line."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

from app.accounts.keys import authenticate
from app.accounts.tables import Member
from app.cli.main import app
from app.cli.seed import SEEDS, seed
from app.clock import local_now
from app.db import transaction
from app.wallet.balance import balance
from pricing.books import read_shipped


@pytest.fixture
def home(database_url: str, redis_url: str, tmp_path: Path) -> Path:
    """A home with its sample accounts, on the servers in the settings."""
    home = tmp_path / "home"
    home.mkdir()
    seed(home)
    return home


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_commands_keep_their_names():
    """Operators' scripts call these names, so renaming a function must not rename its command."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    assert sorted(root.commands) == sorted(
        [
            "api",
            "audit",
            "courier",
            "demo",
            "doctor",
            "erase",
            "generate",
            "init",
            "keys",
            "migrate",
            "models",
            "prices",
            "provenance",
            "quote",
            "replay",
            "scheduler",
            "sign-in-link",
            "up",
            "worker",
        ]
    )


def test_the_first_accounts_are_what_their_names_say(home: Path):
    keys = seed(home)
    assert list(keys) == ["creator", "pro", "enterprise", "admin", "approver"]
    with transaction() as session:
        callers = {name: authenticate(session, key) for name, key in keys.items()}
        money = {name: balance(session, caller.account.id) for name, caller in callers.items()}
    assert callers["enterprise"].account.kind == "invoiced"
    assert money["enterprise"].credit_limit > 0
    assert money["creator"].available > 0
    assert callers["admin"].roles == {"pricing_author", "operator"}
    assert callers["approver"].roles == {"pricing_approver"}


def test_seeding_again_changes_nothing_and_lost_keys_are_made_anew(home: Path):
    first = seed(home)
    assert seed(home) == first
    (home / "keys.json").unlink()
    assert set(seed(home)) == {each.name for each in SEEDS}
    assert seed(home) != first


def test_a_fresh_home_agrees_with_itself_and_a_tampered_one_is_named_row_by_row(home: Path):
    clean = run("audit", "--home", home)
    assert (clean.exit_code, clean.stdout) == (0, "")
    with transaction() as session:
        session.execute(text("UPDATE wallets SET posted = posted + 1 WHERE posted > 0"))
    tampered = run("audit", "--home", home)
    assert tampered.exit_code == 1
    assert len(tampered.stdout.splitlines()) >= 2


def test_a_key_is_issued_works_and_is_revoked(home: Path):
    with transaction() as session:
        account = authenticate(session, seed(home)["pro"]).account.id
    secret = run("keys", "issue", account, "--scope", "videos", "--name", "camera").stdout.strip()
    with transaction() as session:
        key_id = authenticate(session, secret).key_id
    assert f"{account}\tA professional\t{key_id}\t…{secret[-4:]}\tvideos\tno expiry" in run("keys", "list").stdout
    assert run("keys", "revoke", account, key_id).exit_code == 0
    assert f"{key_id}\t…{secret[-4:]}\tvideos\trevoked" in run("keys", "list").stdout


def test_the_key_of_a_sample_account_is_shown_by_name(home: Path):
    assert run("keys", "show", "pro", "--home", home).stdout.strip() == seed(home)["pro"]
    unknown = run("keys", "show", "nobody", "--home", home)
    assert (unknown.exit_code, "It has: creator, pro" in unknown.stderr) == (1, True)


def test_an_operator_may_try_the_studio(home: Path):
    seed(home)
    with transaction() as session:
        roles = session.scalars(select(Member.roles).where(Member.email == "admin@cinemeter.home")).one()
    assert {"owner", "creator", "operator", "pricing_author"} == set(roles)


def test_the_shipped_book_is_sound_and_a_broken_one_is_named(tmp_path: Path):
    book = tmp_path / "book.toml"
    book.write_text(read_shipped(), encoding="utf-8")
    sound = run("prices", "validate", book)
    assert (sound.exit_code, "examples pass" in sound.stdout) == (0, True)
    book.write_text(read_shipped().replace('"2.19"', '"2.18"'), encoding="utf-8")
    broken = run("prices", "validate", book)
    assert broken.exit_code == 1
    assert "2.19" in broken.stderr


def test_a_book_is_published_by_two_admins_for_a_later_time(home: Path, tmp_path: Path):
    book = tmp_path / "book.toml"
    book.write_text(read_shipped().replace("2026-04-27", "2026-04-28", 1), encoding="utf-8")
    moment = (local_now() + timedelta(days=1)).replace(microsecond=0)
    published = run("prices", "publish", book, "--effective-at", moment.isoformat(), "--home", home)
    assert published.exit_code == 0, published.stderr
    assert "\tscheduled\t" in run("prices", "list", "--home", home).stdout.splitlines()[0]


@pytest.mark.parametrize(("moment", "words"), [("tomorrow", "is not a time"), ("2020-01-01T00:00", "in the future")])
def test_a_book_for_no_moment_or_a_past_one_is_refused_and_nothing_is_written(
    home: Path, tmp_path: Path, moment: str, words: str
):
    book = tmp_path / "book.toml"
    book.write_text(read_shipped(), encoding="utf-8")
    refused = run("prices", "publish", book, "--effective-at", moment, "--home", home)
    assert (refused.exit_code, words in refused.stderr) == (1, True)
    assert len(run("prices", "list", "--home", home).stdout.splitlines()) == 1


def test_a_missing_receipt_is_reported(home: Path):
    answer = run("replay", "video_none", "--home", home)
    assert answer.exit_code == 1
    assert "There is no receipt with this id." in answer.stderr


def test_a_home_without_a_running_service_is_reported(home: Path):
    answer = run("generate", "a red circle", "--home", home)
    assert answer.exit_code == 1
    assert "Start one with `cinemeter up`" in answer.stderr


def test_migrating_twice_is_harmless(home: Path):
    assert run("migrate", "--home", home).exit_code == 0
