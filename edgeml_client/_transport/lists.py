"""Lists, which some servers answer bare and others within an object."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BeforeValidator

__all__ = ["bare"]


def bare(key: str) -> BeforeValidator:
    """Return a validator that takes a list out of the object that holds it under ``key``, if one does."""

    def unwrapped(value: object) -> object:
        return cast("dict[str, Any]", value).get(key, value) if isinstance(value, dict) else value

    return BeforeValidator(unwrapped)
