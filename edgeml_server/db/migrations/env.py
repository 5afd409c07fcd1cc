"""Run by Alembic; works on the connection that :mod:`edgeml_server.db.migrate` passes."""

from __future__ import annotations

from alembic import context

from edgeml_server.db.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True
)
context.run_migrations()
