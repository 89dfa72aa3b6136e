"""`python -m pricing FILE…` checks price books: 0 when all hold, 1 with every problem when one does not."""

import sys
from pathlib import Path

from pricing.book import parse_book
from pricing.check import validate


def main(paths: list[str]) -> int:
    """Check the books at `paths`, print the problems, and return the exit status."""
    if not paths:
        sys.stderr.write("usage: python -m pricing FILE...\n")
        return 2
    status = 0
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        problems = validate(text)
        for problem in problems:
            sys.stderr.write(f"{path}: {problem}\n")
        if problems:
            status = 1
        else:
            book = parse_book(text)
            examples = len(book.examples)
            sys.stdout.write(f"{path}: {book.name} is valid, {examples} examples hold, {book.content_hash}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
