"""`make bench`: every measurement that needs no GPU, one after the other."""

import runpy
import sys
from pathlib import Path

WITH_GPU = "gpu"


def main() -> None:
    """Run each file of this folder that can be run by itself."""
    sys.argv = sys.argv[:1]
    for path in sorted(Path(__file__).parent.glob("*.py")):
        runnable = '__name__ == "__main__"' in path.read_text(encoding="utf-8")
        if runnable and path.stem not in (WITH_GPU, "__main__"):
            print(f"\n== {path.stem}", flush=True)
            runpy.run_module(f"tests.bench.{path.stem}", run_name="__main__")


if __name__ == "__main__":
    main()
