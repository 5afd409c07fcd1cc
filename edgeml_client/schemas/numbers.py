"""Numbers that a computation in float32 takes as they are written: neither infinite there, nor zero."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field

__all__ = ["NonNegativeFloat32", "PositiveFloat32", "is_normal_float32"]

_SMALLEST: Final = 2.0**-126
_LARGEST: Final = (2.0 - 2.0**-23) * 2.0**127


def is_normal_float32(value: float) -> bool:
    """Return whether float32 holds ``value`` with all of its precision; 0 does not count."""
    return _SMALLEST <= abs(value) <= _LARGEST


def _within_float32(value: float) -> float:
    if value and not is_normal_float32(value):
        raise ValueError(
            f"training computes in float32, whose numbers are 0 and {_SMALLEST:.7g} to {_LARGEST:.7g}"
        )
    return value


PositiveFloat32: TypeAlias = Annotated[
    float, Field(gt=0, allow_inf_nan=False), AfterValidator(_within_float32)
]
"""Above 0; a normal number of float32."""

NonNegativeFloat32: TypeAlias = Annotated[
    float, Field(ge=0, allow_inf_nan=False), AfterValidator(_within_float32)
]
"""0, or a normal number of float32 above it."""
