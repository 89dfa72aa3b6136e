"""What `cinemeter up` prints when it is ready: one link to open first, then the others, and keys by name."""

from collections.abc import Mapping
from typing import Any

from app.cli.seed import MAIL_HOST, SEEDS

FIRST = f"creator@{MAIL_HOST}"


def welcome_text(record: Mapping[str, Any]) -> list[str]:
    """Return the lines for a running service: `record` has its `base_url`, `keys` by name, and `links` by e-mail."""
    links: dict[str, str] = dict(record["links"])
    url = record["base_url"]
    lines = ["", f"Cinemeter is running at [bold]{url}[/bold]. Stop it with Ctrl-C.", ""]
    first = links.pop(FIRST, None)
    if first is not None:
        lines += [f"Open the studio → [bold]{first}[/bold]", f"(sets the password of {FIRST})", ""]
    if links:
        lines += ["Links of the other accounts; each works once:", ""]
        lines += [f"  {_title(email)}\n  {email:<26}{link}" for email, link in links.items()]
    if first is None and not links:
        emails = ", ".join(f"{each.name}@{MAIL_HOST}" for each in SEEDS)
        lines += [f"Sign in at {url}/sign-in as one of {emails}.", "A new password: cinemeter sign-in-link E-MAIL"]
    names = ", ".join(record["keys"])
    return [*lines, "", f"API keys: {names}. Show one: cinemeter keys show NAME", ""]


def _title(email: str) -> str:
    return next((each.title for each in SEEDS if email == f"{each.name}@{MAIL_HOST}"), "Member")
