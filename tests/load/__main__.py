"""`make load`: a busy day for the service, by a virtual clock or against the real processes.

`python -m tests.load virtual [--jobs N] [--gpus N] [--accounts N] [--seed N]` runs jobs through the real SQL on GPUs
that only pass time. `python -m tests.load live [--minutes N] [--rate N] [--accounts N] [--seed N]` sends orders, polls
and cancels over HTTP to a whole service with the synthetic engine, receives its webhooks, and kills its workers.
Both start servers of their own, and end with the audit; the exit status is 0 where it finds nothing.
"""

import argparse
import sys
import time

from app.settings import set_environment
from tests.bench.money import bench_servers
from tests.bench.polls import backend_seconds
from tests.load.figures import jain
from tests.load.live import run_live
from tests.load.report import print_outcome
from tests.load.virtual import run_virtual


def virtual(options: argparse.Namespace) -> int:
    """Run a virtual day and print it."""
    # What is simulated is not the disk, nor connections that break.
    set_environment(database_ping_seconds=0)
    with bench_servers(throwaway=True):
        day, steps, seconds = run_virtual(
            jobs=options.jobs, gpus=options.gpus, accounts=options.accounts, seed=options.seed
        )
        hours, used = day.seconds / 3600, day.busy_seconds / (day.seconds * options.gpus or 1)
        print(
            f"{day.jobs} jobs of {options.accounts} accounts on {options.gpus} GPUs: {hours:.1f} h of their clock in "
        )
        print(f"{seconds:.0f} s, {day.jobs / seconds:.0f} jobs/s; the GPUs were busy for {100 * used:.0f} % of it")
        print(f"refused {day.refused}, crashes {day.crashes}, takes that ended after their lease {day.lost_ends}")
        rates = day.rates(seconds_min=60.0)
        print(f"fairness (Jain) of GPU-seconds by weight, of {len(rates)} accounts that had to wait: {jain(rates):.3f}")
        for line in steps.lines():
            print(line)
        python, backends = 1000 * time.process_time() / day.jobs, 1000 * backend_seconds("cli") / day.jobs
        print(f"processor time of a job: {python:.1f} ms in Python, {backends:.1f} ms in PostgreSQL")
        began = time.monotonic()
        findings = print_outcome()
        print(f"the outcome and the audit took {time.monotonic() - began:.0f} s")
    return int(bool(findings))


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    days = kinds.add_parser("virtual")
    days.add_argument("--jobs", type=int, default=100_000)
    days.add_argument("--gpus", type=int, default=100)
    days.add_argument("--accounts", type=int, default=500)
    days.set_defaults(run=virtual)
    lives = kinds.add_parser("live")
    lives.add_argument("--minutes", type=float, default=5.0)
    lives.add_argument("--rate", type=float, default=2.0, help="orders a second, on average")
    lives.add_argument("--accounts", type=int, default=20)
    lives.set_defaults(run=run_live)
    for each in (days, lives):
        each.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
