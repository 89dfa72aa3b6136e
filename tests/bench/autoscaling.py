"""Simulate days of an autoscaled pool, 0 to 100 workers with a cold start of 4 minutes, and compare their cost.

`python -m tests.bench.autoscaling [--seeds N]`. Beside each day stand an oracle, which knows all orders beforehand and
lets standard work wait as long as 95 % of the day's did; one that lets nobody wait; the work, below which no plan
can be; the rule of one worker for each unit; and the smallest fixed fleet with the same waits. `in time` is the part of
priority films that started within the ten minutes of their tier, or that no fleet could have started in time.
"""

import argparse
import sys

from tests.autoscaling.days import lines


def main() -> int:
    """Print the days of each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=1, help="days of so many seeds")
    for seed in range(1, parser.parse_args().seeds + 1):
        print(f"seed {seed}")
        for line in lines(seed):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
