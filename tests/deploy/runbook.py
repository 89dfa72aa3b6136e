"""The named blocks of the runbook, as tests run them."""

import re

from tests.repo.sources import ROOT

RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")


def commands(name: str) -> str:
    """Return the runbook's block of this name, as it is written there."""
    match = re.search(rf"^ *```(?:sh|sql|conf) {name}\n(.*?)^ *```", RUNBOOK, flags=re.DOTALL | re.MULTILINE)
    assert match, name
    return match[1]
