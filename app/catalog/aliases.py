"""Aliases: further names under which a model is ordered. An operator's file is laid over the shipped one."""

import re
import tomllib
from collections.abc import Collection, Mapping

from app.catalog.errors import CatalogError

ALIAS_FILE = "aliases.toml"
# As long as the field `model` of an order.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# It is no model: it chooses one.
_RESERVED = "auto"


def parse_aliases(text: str, source: str) -> dict[str, str]:
    """Return the table `[alias]` of a file: the model's id by alias. `source` names the file in the CatalogError."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{source} is not valid TOML: {error}") from error
    problems = [f"{name}: unknown; only the table [alias] is allowed" for name in content if name != "alias"]
    table = content.get("alias", {})
    if not isinstance(table, dict):
        raise CatalogError(f'{source}: alias must be a table of lines such as "sora-2" = "demo"')
    for name, target in table.items():
        if not _NAME.fullmatch(name) or name == _RESERVED:
            problems.append(
                f"alias.{name}: a name has up to 64 letters, digits, full stops, hyphens and underscores, "
                f"begins with a letter or digit, and is not {_RESERVED}"
            )
        if not isinstance(target, str):
            problems.append(f"alias.{name}: must be the id of a model as text")
    if problems:
        raise CatalogError(f"{source}: " + "; ".join(problems))
    return dict(table)


def check_aliases(aliases: Mapping[str, str], model_ids: Collection[str]) -> None:
    """Refuse aliases that name no model or another alias, or that are the id of a model. Raises CatalogError."""
    allowed = f"allowed are the ids {', '.join(sorted(model_ids))}"
    problems = []
    for name, target in aliases.items():
        if name in model_ids:
            problems.append(f"alias.{name}: is the id of a model; choose another name")
        if target in aliases:
            problems.append(f"alias.{name}: {target} is an alias itself; {allowed}")
        elif target not in model_ids:
            problems.append(f"alias.{name}: there is no model {target!r}; {allowed}")
    if problems:
        raise CatalogError(f"{ALIAS_FILE}: " + "; ".join(problems))
