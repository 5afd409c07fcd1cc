"""Checks of a strategy's arguments."""

from __future__ import annotations

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas.numbers import is_normal_float32
from edgeml_client.wording import quoted

__all__ = ["check_strength"]


def check_strength(name: str, value: object) -> None:
    """Check that a strength is 0 or a positive number of float32, or left open.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is None:
        return
    if not (isinstance(value, int | float) and (value == 0 or (value > 0 and is_normal_float32(value)))):
        raise ConfigurationError(
            f"{name} must be a number, finite and at least 0, that float32 holds, not {quoted(value)}"
        )
