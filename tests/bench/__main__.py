"""`make bench`: every measurement that needs no GPU and is not long, one after the other."""

import subprocess
import sys
from pathlib import Path

# Measured by targets of their own.
APART = ("__main__", "gpu", "marks")


def main() -> int:
    """Run each file of this folder that can be run by itself; return how many failed.

    Each has a process of its own: settings and servers of one must not reach into the next.
    """
    failed = 0
    for path in sorted(Path(__file__).parent.glob("*.py")):
        runnable = '__name__ == "__main__"' in path.read_text(encoding="utf-8")
        if runnable and path.stem not in APART:
            print(f"\n== {path.stem}", flush=True)
            failed += subprocess.run([sys.executable, "-m", f"tests.bench.{path.stem}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
