"""The common form of everything on the wire: frozen, typed, and readable as a mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import KeysView

__all__ = ["Record", "WireBody"]


class WireBody(BaseModel):
    """A body we write: unknown keys are a mistake of ours or of the caller."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(BaseModel):
    """An answer we read: typed where we know it, open for what a newer server adds.

    ``record["key"]``, ``"key" in record``, ``record.get("key")`` and ``dict(record)`` work as they do
    on the plain dictionaries that other EdgeML clients return.

    Example:
        >>> answer = Record.model_validate({"id": "m-1"})
        >>> answer["id"]
        'm-1'
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - a JSON value
        if key in type(self).model_fields or key in (self.model_extra or {}):
            return getattr(self, key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in type(self).model_fields or key in (self.model_extra or {})

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - a JSON value
        """Return the value under ``key``, or ``default``."""
        return getattr(self, key, default) if key in self else default

    def keys(self) -> KeysView[str]:
        """Return the names of all fields, known and unknown."""
        return self.model_dump().keys()
