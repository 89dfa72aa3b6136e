"""What a film can be reported for, and how soon each report has to be decided."""

from datetime import timedelta
from typing import NamedTuple


class ReportCategory(NamedTuple):
    """A reason for a report, in the words of the form, and the hours within which it is decided."""

    label: str
    hours: int

    @property
    def limit(self) -> timedelta:
        return timedelta(hours=self.hours)


# The shortest clock that any law among the sources sets for the kind: India's IT Rules of February 2026 (2 hours for
# intimate pictures, 3 for orders of authorities), the United States' TAKE IT DOWN Act (48 hours).
CATEGORIES: dict[str, ReportCategory] = {
    "intimate_imagery": ReportCategory("Intimate pictures of a person, real or generated, without consent", 2),
    "child_abuse": ReportCategory("Sexual content with a child", 2),
    "authority_order": ReportCategory("An order of a court or an authority", 3),
    "impersonation": ReportCategory("A person's face or voice without consent", 48),
    "copyright": ReportCategory("Copyright or trademark", 48),
    "privacy": ReportCategory("Privacy: personal data in the film", 48),
    "other": ReportCategory("Something else that is unlawful", 48),
}
