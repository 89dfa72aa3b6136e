"""A row that an audit disagrees with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One row that disagrees: the rule it breaks, which row it is, and what is wrong."""

    rule: str
    subject: str
    message: str

    @classmethod
    def of_values(cls, rule: str, subject: object, expected: object, actual: object) -> "AuditFinding":
        """Return the finding about a row that should have another value than it has."""
        return cls(rule, str(subject), f"should be {expected}, is {actual}")
