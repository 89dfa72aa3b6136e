"""money: a refund goes back into the lots it was taken from, a lot's draw says why, and receipts and events stay

Revision: 0007, after 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_constraint, replace_unique, set_not_null, update_in_batches

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column(
        "hold_slices", sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False), if_not_exists=True
    )
    op.add_column("lot_draws", sa.Column("cause", sa.Text(), nullable=True), if_not_exists=True)
    add_constraint(
        "ck_hold_slices_refunded_within_used", "hold_slices", "CHECK (refunded BETWEEN 0 AND coalesce(used, 0))"
    )
    # Until now the transfer was all that told: an expiry draws the lot that is over, a correction that takes draws what
    # is there, and whatever else left a lot paid a debt.
    update_in_batches(
        "lot_draws",
        """cause = CASE
            WHEN transfers.kind = 'expiry' AND credit_lots.expires_at <= transfers.at THEN 'expiry'
            WHEN transfers.kind = 'correction' AND transfers.credit = 'corrections' THEN 'correction'
            ELSE 'debt' END""",
        "transfers.id = lot_draws.transfer_id AND credit_lots.id = lot_draws.lot_id AND lot_draws.cause IS NULL",
        sources=", transfers, credit_lots",
    )
    set_not_null("lot_draws", "cause")
    add_constraint("ck_lot_draws_cause", "lot_draws", "CHECK (cause IN ('expiry', 'correction', 'debt'))")
    replace_unique(
        "uq_credit_lots_transfer_id", "uq_credit_lots_transfer_id_kind", "credit_lots", ["transfer_id", "kind"]
    )
    for statement in GUARDS:
        op.execute(statement)


GUARDS = (
    """
    CREATE OR REPLACE FUNCTION receipts_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'a receipt is never changed or removed; what was wrong with it is refunded or corrected';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER receipts_stay BEFORE UPDATE OR DELETE ON receipts
    FOR EACH ROW EXECUTE FUNCTION receipts_stay()
    """,
    """
    CREATE OR REPLACE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.position IS NULL THEN
            OLD.position := NEW.position;
            IF NEW IS NOT DISTINCT FROM OLD THEN
                RETURN NEW;
            END IF;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'an event is never changed or removed; only its place in the feed is written, and once';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER events_stay BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_stay()
    """,
    """
    CREATE OR REPLACE FUNCTION lot_draws_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'what left a credit lot is never changed or removed; credit comes in as a new lot';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER lot_draws_stay BEFORE UPDATE OR DELETE ON lot_draws
    FOR EACH ROW EXECUTE FUNCTION lot_draws_stay()
    """,
)


def downgrade() -> None:
    """Take this revision back."""
    for table in ("receipts", "events", "lot_draws"):
        op.execute(f"DROP TRIGGER {table}_stay ON {table}")
        op.execute(f"DROP FUNCTION {table}_stay()")
    op.drop_constraint("uq_credit_lots_transfer_id_kind", "credit_lots", type_="unique")
    op.create_unique_constraint("uq_credit_lots_transfer_id", "credit_lots", ["transfer_id"])
    op.drop_column("lot_draws", "cause")
    op.drop_column("hold_slices", "refunded")
