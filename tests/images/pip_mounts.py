"""The configuration of pip on this machine, for builds: mounted while they run, and in no layer of an image."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path


def pip_mounts(folder: Path) -> list[str]:
    """Write pip's configuration into `folder`, and return the options of buildah that mount it.

    The folders and files that it names are mounted too. Its variables in the environment are options of that file.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    config = configparser.RawConfigParser()
    config.add_section("global")
    for section, option, value in sorted(_options(listed), key=lambda each: each[0] == ":env:"):
        name = "global" if section == ":env:" else section
        if not config.has_section(name):
            config.add_section(name)
        config.set(name, option, value)
    path = folder / "pip.conf"
    with path.open("w", encoding="utf-8") as file:
        path.chmod(0o600)  # it may hold the password of an index
        config.write(file)
    named = {path for _, _, value in _options(listed) for path in _paths(value)}
    mounts = {str(path): "/etc/pip.conf", **{str(each): str(each) for each in sorted(named)}}
    return [option for source, target in mounts.items() for option in ("--volume", f"{source}:{target}:ro")]


def _options(listed: str) -> list[tuple[str, str, str]]:
    """Parse the lines `section.option='value'`."""
    options = []
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        options.append((section, option, str(ast.literal_eval(value))))
    return options


def _paths(value: str) -> list[Path]:
    """Return the files and folders of this machine that a value names, with what an index refers to beside itself."""
    paths = []
    for scheme, name in re.findall(r"(?:^|\s)(file://)?(/\S+)", value):
        path = Path(name)
        if path.exists():
            paths.append(path.parent if scheme and path.parent != Path("/") else path)
    return paths
