"""The states of a mark of a file, and the error of a mark that cannot be made."""

from enum import StrEnum


class MarkState(StrEnum):
    """What a file says about one mark: it is there and holds, it is not there, or it is there and does not hold."""

    FOUND = "found"
    ABSENT = "absent"
    BROKEN = "broken"


class MarkError(Exception):
    """A mark cannot be made. The message says what an operator has to mend."""
