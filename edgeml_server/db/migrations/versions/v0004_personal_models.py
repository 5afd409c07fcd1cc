"""Personal models, federations with their invitations, and inference events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from edgeml_server.db.tables import UtcDateTime

revision = "0004_personal_models"
down_revision = "0003_rounds"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "personal_models",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name="fk_personal_models_device_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", name="pk_personal_models"),
    )
    op.create_index("ix_personal_models_org_id", "personal_models", ["org_id"], unique=False)
    op.create_index("ix_personal_models_digest", "personal_models", ["digest"], unique=False)
    op.create_table(
        "federations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_federations"),
        sa.UniqueConstraint("org_id", "name", name="uq_federations_org_id_name"),
    )
    op.create_table(
        "federation_invitations",
        sa.Column("federation_id", sa.String(length=64), nullable=False),
        sa.Column("invited_org_id", sa.String(length=255), nullable=False),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("invited_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["federation_id"],
            ["federations.id"],
            name="fk_federation_invitations_federation_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("federation_id", "invited_org_id", name="pk_federation_invitations"),
    )
    op.create_table(
        "inference_events",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("org_id", sa.String(length=255), nullable=False),
        sa.Column("device_identifier", sa.String(length=255), nullable=True),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_inference_events"),
    )
    op.create_index(
        "ix_inference_events_org_id_number", "inference_events", ["org_id", "number"], unique=False
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("inference_events")
    op.drop_table("federation_invitations")
    op.drop_table("federations")
    op.drop_table("personal_models")
