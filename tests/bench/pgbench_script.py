"""A script of pgbench out of recorded statements, in which accounts and new ids differ from one run to the next."""

import re
from collections.abc import Sequence

# What differs from one transaction to the next: the account, the job of a hold, and the ids of new rows.
VARIED = re.compile(r"acct_1\b|job_1\b|(?:video|unit|hold|evt|whd|budget|slice)_[0-9a-z]{24}")
# psycopg writes a text with a backslash as E'…', in which each is doubled.
LITERAL = re.compile(r"(?:\bE)?'(?:[^']|'')*'")


def script(statements: Sequence[str], *, accounts: int) -> str:
    """Return the statements, with their values in place, as one transaction for a random one of so many accounts."""
    lines = [f"\\set who random(1, {accounts})", "\\set vary random(1, 9000000000000000000)", "BEGIN;"]
    for statement in statements:
        varied = LITERAL.sub(lambda match: _vary(match[0]), statement)
        lines.append(" ".join(varied.split()) + ";")
    return "\n".join([*lines, "COMMIT;"]) + "\n"


def _vary(literal: str) -> str:
    """Return an SQL expression for a literal in which accounts and new ids are those of this run of the script.

    A colon within it is written as an escape: pgbench would take what follows for a variable.
    """
    is_escaped = literal.startswith("E")
    plain = literal.removeprefix("E")
    text = (plain if is_escaped else plain.replace("\\", "\\\\")).replace(":", "\\x3a")
    text = f"E{text}" if is_escaped or text != literal else literal
    if not VARIED.search(literal):
        return text
    opening = "' || E'" if text != plain else "' || '"

    def vary(match: re.Match[str]) -> str:
        name = "acct_' || CAST(:who AS text)" if match[0] == "acct_1" else f"{match[0]}' || CAST(:vary AS text)"
        return name + opening[1:]

    return f"({VARIED.sub(vary, text)})"
