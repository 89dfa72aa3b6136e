"""${message}

Revision: ${up_revision}, after ${down_revision | comma,n}

Rules of a migration: it runs while the service runs, so add columns as NULL or with a default, back-fill in batches,
and drop only what no released version reads any more. Triggers of a table come from its tables.py (TRIGGERS).
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    """Bring the database to this revision."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Take the database back to the revision before."""
    ${downgrades if downgrades else "pass"}
