"""Generate from the code: tables of deploy/reference.md, deploy/env.example, dashboards, a list in the chart's schema.

`python -m tests.repo.documents` writes them.

With `--check` it only compares.

A part stands between `<!-- name -->` and `<!-- /name -->`; do not edit it by hand.
"""

import re
import sys
from collections.abc import Callable

from typer.main import get_command

from app.api.dashscope.errors import code_of, status_of
from app.cli.main import app as cli
from app.errors import ERROR_CODES
from app.jobs.states import FINAL, TRANSITIONS
from app.settings import Settings
from tests.repo.dashboards import DASHBOARDS, FOLDER, dashboard
from tests.repo.sources import ROOT

REFERENCE = ROOT / "deploy" / "reference.md"
ENVIRONMENT = ROOT / "deploy" / "env.example"

CHART_SCHEMA = ROOT / "deploy" / "helm" / "cinemeter" / "values.schema.json"
# Settings that the chart sets by itself, so that they are not values of its `env`.
CHART_SETS = frozenset(
    {"home", "host", "port", "metrics_port", "catalog_dir", "signing_key", "moderation_policy"}
    | {"database_url", "redis_url", "secret", "s3_access_key", "s3_secret_key"}
    | {"api_processes", "pools", "device", "drain_seconds", "worker_name"}
)

# What compose.yaml asks for beside the settings themselves.
_COMPOSE = """# Settings of Cinemeter. Copy this file to deploy/.env, which git ignores, and set what you need.
# It is made from app/settings.py; `make fmt` writes it anew.

# For compose.yaml. Make each secret with: openssl rand -hex 24
POSTGRES_PASSWORD=
REDIS_PASSWORD=
# The address at which customers reach the storage, for presigned downloads and uploads.
STORAGE_PUBLIC_URL=http://localhost:8333
# Folder with weights and catalogue files, mounted at /models by the GPU workers.
MODELS_FOLDER=./models
# Folder with the policy of moderation and its classifier, mounted at /etc/cinemeter/moderation; it may be empty.
MODERATION_FOLDER=./moderation
# Further parts of the images: `pictures` for a policy with a classifier.
IMAGE_EXTRAS=
# Containers of the API behind the proxy.
API_CONTAINERS=1
"""
# compose.yaml refuses to start without these.
_MUST_BE_SET = ("public_url", "secret", "s3_access_key", "s3_secret_key")


def settings_table() -> str:
    """Every setting: its variable, its default, and what it does."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        rows.append((f"`CINEMETER_{name.upper()}`", f"`{shown}`" if shown not in ("", None) else "", field.description))
    return _table(("variable", "default", "meaning"), rows)


def errors_table() -> str:
    """Every error code: its HTTP status, what it means, and its code at the DashScope interface."""
    rows: list[tuple[object, ...]] = [
        (f"`{code}`", status, text, f"`{code_of(code)}` {status_of(code)}")
        for code, (status, text) in ERROR_CODES.items()
    ]
    return _table(("code", "status", "meaning", "at the DashScope interface"), rows)


def commands_table() -> str:
    """Every command and its first sentence."""
    rows = []
    for name, command in sorted(get_command(cli).commands.items()):  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        shown = f"`cinemeter {name} {' | '.join(sorted(inner))}`" if inner else f"`cinemeter {name}`"
        rows.append((shown.replace("|", "\\|"), (command.help or "").split("\n")[0]))
    return _table(("command", "what it does"), rows)


def state_diagram() -> str:
    """The states of a job and every move between them."""
    moves = [f"    {one} --> {other}" for one, others in TRANSITIONS.items() for other in sorted(others)]
    ends = [f"    {state} --> [*]" for state in sorted(FINAL)]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> queued", *moves, *ends, "```"])


def environment_example() -> str:
    """Every setting as a variable with its default, commented out unless it must be set."""
    blocks = [_COMPOSE]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        value = "" if shown is None else int(shown) if isinstance(shown, bool) else shown
        mark = "" if name in _MUST_BE_SET else "#"
        blocks.append(f"# {field.description}\n{mark}CINEMETER_{name.upper()}={value}\n")
    return "\n".join(blocks)


def chart_schema(text: str) -> str:
    """Return the schema of the chart's values with the names of the settings that its `env` may set."""
    names = ", ".join(f'"CINEMETER_{name.upper()}"' for name in Settings.model_fields if name not in CHART_SETS)
    return re.sub(r'\{"enum": \[[^]]*\]\},(?=\s+\{"not": \{"pattern": "\^CINEMETER_")', f'{{"enum": [{names}]}},', text)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "errors": errors_table,
    "commands": commands_table,
    "states": state_diagram,
}


def rendered(text: str) -> str:
    """Return the document with each part made anew. Raises KeyError for a part that nothing makes."""

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n{PARTS[name]()}\n<!-- /{name} -->"

    return re.sub(r"<!-- (?P<name>[a-z]+) -->\n.*?<!-- /(?P=name) -->", part, text, flags=re.DOTALL)


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    """Write the documents, or with `--check` only say whether one would change."""
    fresh = {
        REFERENCE: rendered(REFERENCE.read_text(encoding="utf-8")),
        ENVIRONMENT: environment_example(),
        CHART_SCHEMA: chart_schema(CHART_SCHEMA.read_text(encoding="utf-8")),
        **{FOLDER / f"{name}.json": dashboard(name) for name in DASHBOARDS},
    }
    stale = [path for path, text in fresh.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if arguments != ["--check"]:
        for path in stale:
            path.write_text(fresh[path], encoding="utf-8")
    elif stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.stderr.write(f"{names} do not match the code; `make fmt` writes them anew.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
