"""what a unit needs of a GPU, what a worker's GPU can do, and what its time cost

Revision: 0052, after 0051
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.online import add_index, drop_index

revision: str = "0052"
down_revision: str | Sequence[str] | None = "0051"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# As in app.jobs.queue_tables. The code before this revision inserts units without requirements; they fit everywhere.
_COUNT_LANES = """
    CREATE OR REPLACE FUNCTION count_lanes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' AND OLD.state = 'ready' THEN
            UPDATE lanes SET ready = ready - 1 WHERE pool = OLD.pool AND class = OLD.class
                AND account_id = OLD.account_id AND model = OLD.model{old};
            DELETE FROM lanes WHERE pool = OLD.pool AND class = OLD.class
                AND account_id = OLD.account_id AND model = OLD.model{old} AND ready = 0;
        END IF;
        IF TG_OP <> 'DELETE' AND NEW.state = 'ready' THEN
            INSERT INTO lanes (pool, class, account_id, model{columns}, ready)
            VALUES (NEW.pool, NEW.class, NEW.account_id, NEW.model{new}, 1)
            ON CONFLICT (pool, class, account_id, model{columns}) DO UPDATE SET ready = lanes.ready + 1;
        END IF;
        RETURN NULL;
    END $$
"""
_NEEDS = {
    "old": " AND memory_mb = OLD.memory_mb AND features = OLD.features",
    "new": ", NEW.memory_mb, NEW.features",
    "columns": ", memory_mb, features",
}
_KEY = ["pool", "class", "account_id", "model"]
_COLUMNS = (
    ("units", "memory_mb", sa.Integer(), "0"),
    ("units", "features", postgresql.ARRAY(sa.Text()), "{}"),
    ("lanes", "memory_mb", sa.Integer(), "0"),
    ("lanes", "features", postgresql.ARRAY(sa.Text()), "{}"),
    ("workers", "memory_mb", sa.Integer(), None),
    ("workers", "features", postgresql.ARRAY(sa.Text()), None),
    ("takes", "gpu", sa.Text(), None),
    ("takes", "gpu_cost", sa.Numeric(20, 9), None),
    ("receipts", "gpu_cost", sa.Numeric(20, 9), None),
    ("service_figures", "gpu_cost", sa.Numeric(), None),
)


def upgrade() -> None:
    """Bring the database to this revision. Columns with a constant default rewrite no row."""
    for table, name, type_, default in _COLUMNS:
        column = sa.Column(name, type_, nullable=default is None, server_default=default)
        # Each by itself: while it waits for the next table, it must not hold the others, which every claim reads.
        with op.get_context().autocommit_block():
            op.add_column(table, column, if_not_exists=True)
    _key_lanes([*_KEY, "memory_mb", "features"], _NEEDS)
    add_index(
        "ix_units_ready_lane",
        "units",
        ["pool", "class", "account_id", "model", "memory_mb", "features", "queued_at", "id"],
        where="state = 'ready'",
    )
    drop_index("ix_units_ready_model", "units")


def downgrade() -> None:
    """Take this revision back."""
    columns = ["pool", "class", "account_id", "model", "queued_at", "id"]
    add_index("ix_units_ready_model", "units", columns, where="state = 'ready'")
    drop_index("ix_units_ready_lane", "units")
    op.execute(
        """
        WITH gone AS (DELETE FROM lanes RETURNING pool, class, account_id, model, ready)
        INSERT INTO lanes (pool, class, account_id, model, memory_mb, features, ready)
        SELECT pool, class, account_id, model, -1, '{}', sum(ready) FROM gone GROUP BY pool, class, account_id, model
        """
    )
    _key_lanes(_KEY, dict.fromkeys(_NEEDS, ""))
    for table, name, _, _ in reversed(_COLUMNS):
        op.drop_column(table, name)


def _key_lanes(columns: list[str], needs: dict[str, str]) -> None:
    op.drop_constraint("pk_lanes", "lanes", type_="primary", if_exists=True)
    op.create_primary_key("pk_lanes", "lanes", columns)
    op.execute(_COUNT_LANES.format(**needs))
    if needs["old"]:
        watched = "state, class, pool, account_id, model, memory_mb, features"
    else:
        watched = "state, class, pool, account_id, model"
    op.execute(
        f"""
        CREATE OR REPLACE TRIGGER units_count_lanes AFTER INSERT OR DELETE OR UPDATE OF {watched} ON units
        FOR EACH ROW EXECUTE FUNCTION count_lanes()
        """
    )
