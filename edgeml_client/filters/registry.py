"""Filters by name, so that a round's config can ask for them."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.delta_filter import DeltaFilter

__all__ = ["FilterRegistry"]


class FilterRegistry:
    """The filter types this process knows; the built-in ones are always registered at import."""

    _by_name: ClassVar[dict[str, type[DeltaFilter]]] = {}

    @classmethod
    def register(cls, name: str, filter_class: type[DeltaFilter]) -> None:
        """Make ``filter_class`` known as ``name``, in place of whatever was.

        Raises:
            FilterConfigError: ``filter_class`` is no subclass of :class:`DeltaFilter`.
        """
        candidate = cast("Any", filter_class)  # callers without a type checker pass anything
        if not (isinstance(candidate, type) and issubclass(candidate, DeltaFilter)):
            raise FilterConfigError(f"filter {name!r} must be a subclass of DeltaFilter, not {candidate!r}")
        cls._by_name[name] = filter_class

    @classmethod
    def get(cls, name: str) -> type[DeltaFilter] | None:
        """Return the class known as ``name``, or ``None``."""
        return cls._by_name.get(name)

    @classmethod
    def list_filters(cls) -> list[str]:
        """Return all names, ascending."""
        return sorted(cls._by_name)

    @classmethod
    def unregister(cls, name: str) -> bool:
        """Forget ``name``; return whether it was known."""
        return cls._by_name.pop(name, None) is not None

    @classmethod
    def find_name(cls, filter_class: type[DeltaFilter]) -> str | None:
        """Return the first name of a class, or ``None`` if it is not registered."""
        return next((name for name in cls.list_filters() if cls._by_name[name] is filter_class), None)
