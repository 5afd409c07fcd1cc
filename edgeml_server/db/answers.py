"""Stored answers: what a creating call answered, so that its repetition gets the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import String, Text, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["AnswerRepository", "AnswerRow", "StoredAnswer"]


class AnswerRow(Base):
    """One creating call that carried an ``Idempotency-Key``."""

    __tablename__ = "answers"

    org_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024))
    body_digest: Mapped[str] = mapped_column(String(80))
    answer: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


@dataclass(frozen=True)
class StoredAnswer:
    """What is held under a key.

    Attributes:
        answer: The JSON text that was answered.
    """

    path: str
    body_digest: str
    answer: str


class AnswerRepository:
    """The statements about stored answers of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def claim(self, *, key: str, path: str, body_digest: str, now: datetime) -> bool:
        """Take the key for the transaction at hand; ``False`` if it is taken already.

        A rival that holds the key in an open transaction is waited for.
        """
        row = AnswerRow(org_id=self._org_id, key=key, path=path, body_digest=body_digest, created_at=now)
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return False
        return True

    def store(self, *, key: str, answer: str) -> None:
        """Keep the answer under a claimed key."""
        mine = (AnswerRow.org_id == self._org_id, AnswerRow.key == key)
        self._session.execute(update(AnswerRow).where(*mine).values(answer=answer))

    def find(self, key: str) -> StoredAnswer | None:
        """Return what is held under the key, if anything is."""
        columns = select(AnswerRow.path, AnswerRow.body_digest, AnswerRow.answer)
        row = self._session.execute(
            columns.where(AnswerRow.org_id == self._org_id, AnswerRow.key == key)
        ).one_or_none()
        return None if row is None else StoredAnswer(row.path, row.body_digest, row.answer or "")

    def forget_before(self, moment: datetime) -> None:
        """Drop the organization's answers from before ``moment``."""
        self._session.execute(
            delete(AnswerRow).where(AnswerRow.org_id == self._org_id, AnswerRow.created_at < moment)
        )
