"""Compare-and-set: the one way to change a state that others may be changing too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from edgeml_server.db.tables import Base

__all__ = ["compare_and_set"]


def compare_and_set(
    session: Session, table: type[Base], *expected: ColumnElement[bool], values: Mapping[str, Any]
) -> bool:
    """Apply ``values`` to the rows that still are as ``expected``, in one statement.

    SQLite ignores ``SELECT ... FOR UPDATE``, so a read followed by a write races there. A single
    ``UPDATE ... WHERE`` is right on both databases: PostgreSQL checks the condition again after waiting for a
    rival.

    Args:
        session: The session of the unit of work.
        table: The mapped class.
        *expected: The state that must still hold, the key among it.
        values: New values by column name; a value may be an SQL expression.

    Returns:
        Whether this caller made the change. ``False``: somebody else did, read again.
    """
    statement = (
        update(table).where(*expected).values(dict(values)).execution_options(synchronize_session=False)
    )
    # RETURNING would do as well; the driver's row count is right for both databases and needs no fetch.
    return session.connection().execute(statement).rowcount > 0
