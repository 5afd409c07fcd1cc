"""Rounds, their cohorts, and the updates that count."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from edgeml_server.db.tables import UtcDateTime

revision = "0003_rounds"
down_revision = "0002_devices_registry"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "rounds",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("series_id", sa.String(length=64), nullable=False),
        sa.Column("round_number", sa.Integer(), nullable=False),
        sa.Column("num_rounds", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("base_version", sa.String(length=64), nullable=False),
        sa.Column("base_digest", sa.String(length=80), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("min_updates", sa.Integer(), nullable=False),
        sa.Column("cohort_size", sa.Integer(), nullable=True),
        sa.Column("deadline_s", sa.Float(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("norm_bound", sa.String(length=16), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("num_selected", sa.Integer(), nullable=False),
        sa.Column("num_updates", sa.Integer(), nullable=False),
        sa.Column("num_samples", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("deadline_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("new_version", sa.String(length=64), nullable=True),
        sa.Column("next_round_id", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", UtcDateTime(), nullable=True),
        sa.Column("num_attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_rounds_model_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_rounds"),
        sa.UniqueConstraint("series_id", "round_number", name="uq_rounds_series_id_round_number"),
    )
    op.create_index("ix_rounds_phase_org_id", "rounds", ["phase", "org_id"], unique=False)
    op.create_index("ix_rounds_org_id_created_at", "rounds", ["org_id", "created_at"], unique=False)
    op.create_index("ix_rounds_model_id", "rounds", ["model_id"], unique=False)
    op.create_table(
        "round_devices",
        sa.Column("round_id", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name="fk_round_devices_round_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name="fk_round_devices_device_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("round_id", "device_id", name="pk_round_devices"),
    )
    op.create_index("ix_round_devices_device_id", "round_devices", ["device_id"], unique=False)
    op.create_table(
        "updates",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("round_id", sa.String(length=64), nullable=True),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("device_identifier", sa.String(length=255), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("base_version", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("blob_digest", sa.String(length=80), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sample_count", sa.BigInteger(), nullable=False),
        sa.Column("norm", sa.Float(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("accepted_at", UtcDateTime(), nullable=False),
        sa.Column("new_version", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name="fk_updates_round_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name="fk_updates_device_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_updates_model_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_updates"),
        sa.UniqueConstraint("round_id", "device_id", name="uq_updates_round_id_device_id"),
    )
    op.create_index("ix_updates_org_id", "updates", ["org_id"], unique=False)
    op.create_index("ix_updates_blob_digest", "updates", ["blob_digest"], unique=False)
    op.create_index("ix_updates_model_id_base_version", "updates", ["model_id", "base_version"], unique=False)
    op.create_index(
        "uq_updates_without_round",
        "updates",
        ["device_id", "model_id", "base_version", "digest"],
        unique=True,
        sqlite_where=sa.text("round_id IS NULL"),
        postgresql_where=sa.text("round_id IS NULL"),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("updates")
    op.drop_table("round_devices")
    op.drop_table("rounds")
