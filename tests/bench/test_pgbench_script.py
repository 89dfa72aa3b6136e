"""Recorded statements become a script of pgbench whose literals mean the same, but for accounts and new ids."""

from tests.bench.pgbench_script import script

HOLD = "hold_" + "a" * 24


def test_literals_stay_what_they_are_but_for_accounts_and_new_ids():
    lines = script(
        [
            "SELECT 'plain', 'it''s', 'at 10:30', E'a\\\\b', 'acct_12'",
            f"INSERT INTO holds VALUES ('acct_1', '[{{\"id\": \"{HOLD}\"}}]', 'job_1')",
        ],
        accounts=16,
    ).splitlines()
    assert lines[0] == "\\set who random(1, 16)"
    assert lines[2] == "BEGIN;"
    assert lines[-1] == "COMMIT;"
    assert lines[3] == "SELECT 'plain', 'it''s', E'at 10\\x3a30', E'a\\\\b', 'acct_12';"
    assert lines[4] == (
        "INSERT INTO holds VALUES (('acct_' || CAST(:who AS text) || ''), "
        f"(E'[{{\"id\"\\x3a \"{HOLD}' || CAST(:vary AS text) || E'\"}}]'), ('job_1' || CAST(:vary AS text) || ''));"
    )
