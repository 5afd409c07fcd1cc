"""Checks of a strategy's arguments, and of the class that takes them."""

from __future__ import annotations

import inspect

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas.numbers import is_normal_float32
from edgeml_client.wording import quoted

__all__ = ["check_decorated", "check_strength"]


def check_decorated(kind: type[object]) -> None:
    """Check that a class with new fields is a dataclass itself, so that it takes them as arguments.

    Raises:
        ConfigurationError: The decorator is missing from it, or from a class that it is derived from.
    """
    for derived in kind.__mro__:
        annotations = {} if "__dataclass_fields__" in vars(derived) else inspect.get_annotations(derived)
        if fields := [name for name, of in annotations.items() if "ClassVar" not in str(of)]:
            raise ConfigurationError(
                f"{derived.__name__} has new fields ({', '.join(fields)}) and is no dataclass, so it "
                f"takes none of them: write @dataclass(frozen=True) in the line above its class"
            )


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
