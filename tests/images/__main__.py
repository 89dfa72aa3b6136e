"""`make test-images`: build both images, run deploy/compose.yaml with Docker's engine, and follow the runbook on it.

The images are built on a base of Debian's packages, and the images of registries have stand-ins, so that no registry is
needed. The engine runs in namespaces of its own: nothing of it is left when they end, and no port is taken here. Layers
and images are kept in FOLDER for the next run.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.images.building import build_images, foreign_images
from tests.images.tools import MissingToolError, install_tools
from tests.repo.sources import ROOT

TESTS_SECONDS = 2400
FREE_BYTES = 12 * 2**30
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def main() -> int:
    """Read the options, build and test. The status is 0 where the machine cannot do it: the reason is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "images")
    parser.add_argument("--torch-index", default="", help="package index of PyTorch for the worker's image")
    options = parser.parse_args()
    folder = options.folder.absolute()
    began = time.monotonic()
    try:
        install_tools(folder)
        check_machine(folder)
        print(f"Images are built in {folder}, which is kept for the next run (remove it as root).")
        images = build_images(folder, options.torch_index)
    except MissingToolError as reason:
        print(f"The images are not built and not tested: {reason}.")
        return 0
    print(f"Stand-ins made of Debian's packages and rclone, not the images themselves: {', '.join(foreign_images())}.")
    print("The engine is Debian's dockerd, with its iptables off: containers reach one another and nothing else.")
    print(f"{len(images)} images in {time.monotonic() - began:.0f} s. Their tests follow.", flush=True)
    return run_tests(folder)


def check_machine(folder: Path) -> None:
    """Raises MissingToolError where this machine makes no namespaces, or has no place for images."""
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise MissingToolError(f"no namespaces can be made here ({tried.stderr.strip()})")
    free = shutil.disk_usage(folder).free
    if not (folder / "docker").exists() and free < FREE_BYTES:
        raise MissingToolError(f"{folder} has {free >> 30} GiB free, and images need {FREE_BYTES >> 30} GiB")


def run_tests(folder: Path) -> int:
    """Run the tests in namespaces of their own. Whatever they started ends with them."""
    options = ["-v", "--no-header", "--tb=short", "--maxfail=3", "-p", "no:cacheprovider"]
    options += ["-m", "images", "--images-folder", str(folder), "tests/images"]
    command = ["nice", "-n", "10", *NAMESPACES, sys.executable, "-m", "pytest", *options]
    try:
        return subprocess.run(command, cwd=ROOT, timeout=TESTS_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"The tests have not ended after {TESTS_SECONDS} s.")
        return 1


if __name__ == "__main__":
    sys.exit(main())
