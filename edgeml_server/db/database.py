"""The unit of work: the only thing that commits."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from edgeml_server.db.engine import BEGIN_OPTION, database_url, open_engine
from edgeml_server.db.failures import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import Engine

__all__ = ["Database", "UnitOfWork"]

_LOG = logging.getLogger(__name__)


class _WriteLocks:
    """One write lock for each SQLite file in this process, however many engines are open on it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_file: dict[str, threading.Lock] = {}

    def of(self, file: str) -> threading.Lock:
        with self._guard:
            return self._by_file.setdefault(file, threading.Lock())


_WRITE_LOCKS: Final = _WriteLocks()


class UnitOfWork:
    """A change in the making: all of it becomes durable, or none.

    Attributes:
        session: Where repositories run their statements.
    """

    def __init__(self, session: Session) -> None:
        self.session: Final = session
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run ``action`` once the change is durable; not at all if it is rolled back."""
        self._after_commit.append(action)

    def announce(self) -> None:
        """Run what was asked for by :meth:`after_commit`; the database does this after the commit."""
        for action in self._after_commit:
            action()


class Database:
    """An open database.

    Args:
        url: ``sqlite:///file`` or ``postgresql://...``.

    Raises:
        SetupError: The address cannot work.
    """

    def __init__(self, url: str) -> None:
        parsed = database_url(url)
        self.engine: Final[Engine] = open_engine(parsed)
        self._writing_engine = self.engine.execution_options(**{BEGIN_OPTION: "IMMEDIATE"})
        self._write_lock = _WRITE_LOCKS.of(str(parsed.database)) if self.is_sqlite else None
        self._held = threading.local()

    @property
    def is_sqlite(self) -> bool:
        """Whether one process, and one thread of it, writes at a time."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def unit_of_work(self) -> Generator[UnitOfWork]:
        """Begin a write; commit when the block is left, roll back if it raises.

        Raises:
            RuntimeError: This thread is inside a unit of work already.
            UnavailableError: The database is busy or not reachable.
            InvalidContentError: A value cannot be stored.
            ContradictionError: Somebody changed the same thing at the same time.
        """
        with (
            self._one_writer(),
            translated(),
            Session(self._writing_engine, expire_on_commit=False) as session,
        ):
            work = UnitOfWork(session)
            with session.begin():
                yield work
        work.announce()

    @contextmanager
    def snapshot(self) -> Generator[Session]:
        """Read; what the block writes is discarded."""
        with translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    def ping(self) -> None:
        """Return if the database answers; raises SQLAlchemy's error if not."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _one_writer(self) -> Generator[None]:
        if getattr(self._held, "by_this_thread", False):
            raise RuntimeError("a unit of work is open in this thread; pass it on instead of opening another")
        self._held.by_this_thread = True
        try:
            if self._write_lock is None:
                yield
            else:
                with self._write_lock:
                    yield
        finally:
            self._held.by_this_thread = False
