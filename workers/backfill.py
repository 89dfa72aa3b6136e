"""The backfill of marks: `python -m workers.backfill`, which `cinemeter provenance backfill` starts.

It works on one film after the other, in a process of its own and with low priority, so that takes go on beside it.
Progress goes to standard error, the result to standard output.
"""

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.cli.serve import stop_event
from app.db import transaction
from app.jobs.backfill import (
    FilmLease,
    FilmWithoutMarks,
    count_unmarked,
    give_back,
    lease_film,
    skip_film,
    unmarked_films,
)
from app.logs import set_up_logs
from app.process_role import name_process
from app.provenance.mark_state import MarkError
from app.storage import StorageError, get_storage
from workers.backfill_film import BackfillResult, LeaseEnded, backfill_film
from workers.engine import Stopped
from workers.film_marks import usable_identity

log = logging.getLogger(__name__)

BATCH = 100
_NICENESS = 10


@dataclass(frozen=True)
class BackfillOptions:
    """How a backfill runs: films per minute at most, films at all at most (None: no limit), skipped ones again."""

    per_minute: float = 60.0
    limit: int | None = None
    again: bool = False
    dry_run: bool = False


@dataclass
class BackfillReport:
    """What a backfill did. `films` and `bytes` are what there was to do at its start.

    `skipped` has the films that were left out, with the reason; `problem` says why it ended early.
    """

    films: int = 0
    bytes: int = 0
    dry_run: bool = False
    marked: int = 0
    kept: int = 0
    taken: int = 0  # by another backfill meanwhile, or removed
    skipped: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    problem: str = ""

    def content(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        skipped = [{"id": film_id, "reason": reason} for film_id, reason in self.skipped.items()]
        return asdict(self) | {"skipped": skipped}

    def progress(self) -> str:
        """Return one line on how far it is."""
        counts = f"{self.marked} marked, {self.kept} had marks, {len(self.skipped)} skipped"
        done = self.marked + self.kept + self.taken + len(self.skipped)
        return f"{done} of {self.films} films: {counts}"


def run_backfill(options: BackfillOptions, stop: threading.Event) -> BackfillReport:
    """Mark the films that were delivered without marks until all are done, the limit is reached, or `stop` is set.

    A film that is being worked on is finished first. What is wrong with the store or the certificate ends the backfill
    with a `problem`; the next one goes on where this one ended.
    """
    with transaction() as session:
        count, size = count_unmarked(session, again=options.again)
    report = BackfillReport(count, size, options.dry_run)
    pause = 60 / options.per_minute
    worked = 0
    try:
        if not options.dry_run:
            usable_identity()
        for film in _films(options):
            if stop.is_set() or worked == options.limit:
                break
            began = time.monotonic()
            _work(film, options, report)
            worked += 1
            if worked % BATCH == 0:
                _print_progress(report)
            if not options.dry_run:
                stop.wait(max(0.0, began + pause - time.monotonic()))
    except (StorageError, Stopped, MarkError) as error:
        report.problem = str(error)
    report.stopped = stop.is_set()
    return report


def _films(options: BackfillOptions) -> Iterator[FilmWithoutMarks]:
    """Yield the films by their ids, read in batches: each film is looked at once."""
    after = ""
    while True:
        with transaction() as session:
            films = unmarked_films(session, after=after, limit=BATCH, again=options.again)
        if not films:
            return
        yield from films
        after = films[-1].film_id


def _work(film: FilmWithoutMarks, options: BackfillOptions, report: BackfillReport) -> None:
    if options.dry_run:
        stored = get_storage().stat(film.key)
        if stored is None:
            report.skipped[film.film_id] = "its file is not in storage"
        else:
            report.marked += 1
        return
    with transaction() as session:
        lease = lease_film(session, film, again=options.again)
    result = None if lease is None else _run(lease)
    if result is None:
        report.taken += 1
    elif result.state == "skipped":
        report.skipped[film.film_id] = result.reason
    else:
        report.marked += result.state == "marked"
        report.kept += result.state == "kept"


def _run(lease: FilmLease) -> BackfillResult | None:
    """Work on a leased film; None where the lease has ended.

    Where the store, the certificate or the database is of no use, the film is given back. Anything else that goes wrong
    is of this film alone, and must not keep the others from their marks.
    """
    try:
        return backfill_film(lease)
    except LeaseEnded:
        return None
    except (StorageError, Stopped, MarkError, SQLAlchemyError):
        with transaction() as session:
            give_back(session, lease)
        raise
    except Exception as error:
        log.exception("The film %s cannot be marked", lease.film.film_id)
        with transaction() as session:
            skip_film(session, lease, repr(error))
        return BackfillResult("skipped", repr(error))


def _print_progress(report: BackfillReport) -> None:
    sys.stderr.write(report.progress() + "\n")
    sys.stderr.flush()


def result_lines(report: BackfillReport) -> list[str]:
    """Return the result for people: the films that were left out, then how many there were of each kind."""
    lines = [f"{film_id}\tskipped: {reason}" for film_id, reason in report.skipped.items()]
    if report.dry_run:
        lines.append(f"{report.marked} of {report.films} films ({report.bytes} bytes) would be read; nothing changed.")
    else:
        lines.append(report.progress() + ".")
    return [*lines, *(["Stopped. Run the command again to go on."] if report.stopped else [])]


def main(arguments: list[str]) -> int:
    """Run a backfill from the command line. Returns the exit code: 1 where the store or certificate is of no use."""
    parser = argparse.ArgumentParser(prog="workers.backfill")
    parser.add_argument("--per-minute", type=float, required=True)
    parser.add_argument("--limit", type=int)
    for flag in ("--again", "--dry-run", "--json"):
        parser.add_argument(flag, action="store_true")
    words = parser.parse_args(arguments)
    name_process("backfill")
    set_up_logs("backfill")
    os.nice(_NICENESS)
    options = BackfillOptions(words.per_minute, words.limit, words.again, words.dry_run)
    report = run_backfill(options, stop_event())
    lines = [json.dumps(report.content(), ensure_ascii=False)] if words.json else result_lines(report)
    sys.stdout.write("\n".join(lines) + "\n")
    if report.problem:
        sys.stderr.write(f"error {report.problem} Run the command again to go on.\n")
    return 1 if report.problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
