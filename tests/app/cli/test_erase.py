"""`cinemeter erase`: a plan, a confirmation, the erasure and the list."""

from pathlib import Path

from sqlalchemy import select

from app.accounts.accounts import create_account
from app.accounts.tables import Account
from app.db import transaction
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from tests.app.cli.test_commands import home, run  # noqa: F401 (a fixture)


def test_an_account_is_planned_confirmed_and_erased(home: Path) -> None:  # noqa: F811
    with transaction() as session:
        account = create_account(session, "Chen Wei")
        open_wallet(session, account.id)
        top_up(session, account.id, 1234, kind="purchased", reference="inv-1")
    erase = ("erase", "account", account.id, "--home", home)

    planned = run(*erase, "--dry-run")
    assert planned.exit_code == 0, planned.output
    lines = planned.stdout.splitlines()
    assert "goes\t0\tkeys: names; they end" in lines
    assert any(line.startswith("stays\t1\ttransfers, holds and credit lots\tbookkeeping") for line in lines)
    assert "money\t12.34 CNY are left in the wallet, of which 12.34 were bought." in planned.stdout

    for unconfirmed in (erase, (*erase, "--confirm", "acct_other")):
        refused = run(*unconfirmed)
        assert refused.exit_code == 1
        assert "Nothing was erased" in refused.output
    assert run("erase", "list", "--home", home).stdout == ""

    erased = run(*erase, "--confirm", account.id)
    assert erased.exit_code == 0, erased.output
    assert "erased\taccount\t1" in erased.stdout
    with transaction() as session:
        assert session.scalars(select(Account.name).where(Account.id == account.id)).one() == "erased"
    kind, subject, _, end = run("erase", "list", "--home", home).stdout.strip().split("\t")
    assert (kind, subject, end != "-") == ("account", account.id, True)
    assert run("audit", "--processes", "1", "--home", home).exit_code == 0


def test_what_is_not_there_is_not_erased(home: Path) -> None:  # noqa: F811
    for kind in ("account", "member", "report"):
        missing = run("erase", kind, "nobody", "--dry-run", "--home", home)
        assert (missing.exit_code, "There is no" in missing.output) == (1, True), missing.output
    assert "0 films are cancelled" not in run("erase", "account", "nobody", "--cancel-films", "--home", home).output
