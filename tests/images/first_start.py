"""The runbook's chapter "First start", command by command, and a first customer."""

import re
import time

from tests.images.engine import until
from tests.images.installation import Installation, measure
from tests.repo.sources import ROOT

HEALTHY_SECONDS = 180
COUNTED = ("exited", "healthy")


def runbook_commands() -> list[str]:
    """Return the `dc` commands of the chapter's numbered steps, but those for GPUs."""
    text = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
    chapter = text.split("## First start\n", 1)[1].split("\n## ", 1)[0]
    steps = re.findall(r"^\d\. .*(?:\n   .*)*", chapter, flags=re.MULTILINE)
    commands = [command for step in steps for command in re.findall(r"`(dc [^`]+)`", step)]
    return [command for command in commands if "gpu" not in command]


def start(installation: Installation, report: list[str]) -> None:
    """Do the chapter's steps, keep what they wrote, and open an account with money and a key."""
    began = time.monotonic()
    for command in runbook_commands():
        step = time.monotonic()
        installation.outputs[command] = installation.run(command)
        report.append(f"{command}: {measure(step)}")
        if command.startswith("dc up"):
            until(lambda: _is_healthy(installation), HEALTHY_SECONDS, "all containers healthy", pause=1)
            report.append(f"all containers healthy: {measure(step)} after it began")
    installation.admin = re.findall(r"\bcm_live_\w+", installation.outputs[runbook_commands()[1]])[0]
    _open_account(installation)
    report.append(f"first start, with account, top-up and key: {measure(began)}")


def _is_healthy(installation: Installation) -> bool:
    states = installation.states()
    assert not any(state == "unhealthy" for state in states.values()), states
    return bool(states) and all(state in COUNTED for state in states.values())


def _open_account(installation: Installation) -> None:
    with installation.client(installation.admin) as operator:

        def send(path: str, body: dict[str, object]) -> dict[str, str]:
            answer = operator.post(path, json=body)
            assert answer.is_success, (path, answer.text)
            facts: dict[str, str] = answer.json()
            return facts

        installation.account = send("/v1/admin/accounts", {"name": "First customer"})["id"]
        path = f"/v1/admin/accounts/{installation.account}"
        send(f"{path}/top_ups", {"amount": "100.00", "kind": "purchased", "reference": "first payment"})
        send(f"{path}/membership", {"membership": "enterprise"})
        installation.key = send(f"{path}/keys", {"scopes": ["videos", "billing"]})["secret"]
