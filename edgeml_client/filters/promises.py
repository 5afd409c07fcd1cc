"""What a filter of the user's own declares, held against what it did: figures that were believed go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import Sensitivity, Sparsity
from edgeml_client.filters.step import FilterStep
from edgeml_client.updates.vector import DeltaVector

__all__ = ["Promises"]

_ROUNDING: Final = 1e-4
"""By how much, relative to it, arithmetic in float32 may miss a norm."""

_NEGLIGIBLE: Final = np.float32(1e-30)
"""Smaller magnitudes may become zero by rounding alone."""

_ZEROS_STAY: Final = (Sparsity.KEEPS, Sparsity.ADDS, Sparsity.SELECTS_LARGEST, Sparsity.SELECTS_RANDOM)


@dataclass(frozen=True, slots=True)
class Promises:
    """What a filter declares about an update, and as much of that update as it takes to check it.

    Checked are the norm and the zeros, in one or two passes over the numbers. Bits, masks and what is random
    cannot be told from one result.

    Attributes:
        step: The filter.
        norm: The L2 norm of the update before it.
        were_zero: Which numbers were zero; ``None`` if zeros need not stay.
        were_not: Which numbers were clearly not zero; ``None`` if more zeros are allowed.
    """

    step: FilterStep
    norm: float
    were_zero: npt.NDArray[np.bool_] | None
    were_not: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, step: FilterStep, vector: DeltaVector, *, norm: float) -> Self:
        """Return what ``step`` declares about ``vector``, before it runs.

        Args:
            step: The filter.
            vector: The update.
            norm: Its L2 norm.
        """
        sparsity, values = step.step.effects.sparsity, vector.values
        return cls(
            step,
            norm,
            were_zero=values == 0 if sparsity in _ZEROS_STAY else None,
            were_not=(values > _NEGLIGIBLE) | (values < -_NEGLIGIBLE) if sparsity is Sparsity.KEEPS else None,
        )

    def require_kept(self, vector: DeltaVector, *, norm: float) -> None:
        """Return if the filter did as it declares.

        Args:
            vector: The update afterwards.
            norm: Its L2 norm.

        Raises:
            FilterConfigError: It did not; the message names the filter and what to declare instead.
        """
        self._require_norm(norm)
        if self.were_zero is not None and (num := np.count_nonzero(self.were_zero & (vector.values != 0))):
            raise self._broken(
                f"sparsity = Sparsity.{self.step.step.effects.sparsity.name}, but {num} numbers that were "
                "zero are not any more",
                instead="Sparsity.FILLS",
            )
        if self.were_not is not None and (num := np.count_nonzero(self.were_not & (vector.values == 0))):
            raise self._broken(
                f"sparsity = Sparsity.KEEPS, but {num} numbers became zero", instead="Sparsity.ADDS"
            )

    def _require_norm(self, norm: float) -> None:
        effects = self.step.step.effects
        if effects.max_norm is not None and not norm <= effects.max_norm * (1 + _ROUNDING):
            raise self._broken(
                f"max_norm = {effects.max_norm:.6g}, but the norm is {norm:.6g} afterwards",
                instead="Sensitivity.UNKNOWN",
            )
        if effects.sensitivity is Sensitivity.KEEPS and not norm <= self.norm * (1 + _ROUNDING):
            raise self._broken(
                f"sensitivity = Sensitivity.KEEPS, but the norm grew from {self.norm:.6g} to {norm:.6g}",
                instead="Sensitivity.UNKNOWN",
            )

    def _broken(self, what: str, *, instead: str) -> FilterConfigError:
        return FilterConfigError(
            f"filter {self.step.type!r} declares {what}; nothing was sent: mend the filter, or declare "
            f"{instead} in its effects"
        )
