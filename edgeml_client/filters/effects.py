"""What a filter does to an update, declared, so that an order of filters is checked before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["FilterEffects", "Sensitivity", "Sparsity"]


class Sensitivity(StrEnum):
    """What a filter does to the L2 norm that one device's update has at most.

    That bound is what noise is measured against: the *sensitivity* of the sum to one device (Dwork and Roth,
    2014, Definition 3.8).
    """

    UNKNOWN = "unknown"
    """It may enlarge the norm, so no bound holds any longer."""
    KEEPS = "keeps"
    """It never enlarges the norm, so a bound stays one."""
    BOUNDS = "bounds"
    """Afterwards the norm is at most :attr:`FilterEffects.max_norm`, whatever the update was."""
    RANDOMIZES = "randomizes"
    """It hides one device's update in noise."""


class Sparsity(StrEnum):
    """What a filter does to the numbers that are zero."""

    UNKNOWN = "unknown"
    """Anything: the zeros are counted afterwards."""
    KEEPS = "keeps"
    """The zeros are the same as before."""
    ADDS = "adds"
    """Zeros stay, and others may become zero, whatever their size."""
    SELECTS_LARGEST = "selects_largest"
    """All but the largest become zero."""
    SELECTS_RANDOM = "selects_random"
    """All but some become zero, chosen without a look at them."""
    FILLS = "fills"
    """Zeros may become other numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterEffects:
    """What a filter does to sensitivity, to sparsity, to bytes and to arrays among each other.

    The defaults promise nothing. They hold for a filter of your own that declares nothing: it may stand
    anywhere but behind one that masks, and is taken to spoil every bound, zero and grid before it.

    Attributes:
        sensitivity: What it does to the largest norm of an update.
        max_norm: The bound it establishes; given exactly when ``sensitivity`` is ``BOUNDS``.
        sparsity: What it does to zeros.
        bits_per_number: The bits that a number which is not zero takes afterwards in the coded form;
            ``None`` if no more than before, 32 if the numbers afterwards are any floats.
        masks: Whether the result can only be read in the sum over devices, as in secure aggregation.
        arrays_apart: Whether it treats each array by itself: weighs none against another, and leaves none
            out. Strategies that send more than the model allow no others. Declared by the class, as it is
            asked before there is an instance.

    Raises:
        ValueError: ``max_norm`` is missing, superfluous or not above 0, or the bits are not 1 to 32.

    Example:
        >>> FilterEffects(sensitivity=Sensitivity.BOUNDS, max_norm=1.0, sparsity=Sparsity.KEEPS).max_norm
        1.0
    """

    sensitivity: Sensitivity = Sensitivity.UNKNOWN
    max_norm: float | None = None
    sparsity: Sparsity = Sparsity.UNKNOWN
    bits_per_number: int | None = 32
    masks: bool = False
    arrays_apart: bool = False

    def __post_init__(self) -> None:
        if (self.max_norm is not None) != (self.sensitivity is Sensitivity.BOUNDS):
            raise ValueError("max_norm goes with Sensitivity.BOUNDS, and with nothing else")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"max_norm = {self.max_norm!r} is not above 0")
        if self.bits_per_number not in (None, *range(1, 33)):
            raise ValueError(f"bits_per_number = {self.bits_per_number!r} is neither None nor 1 to 32")

    @property
    def quantizes(self) -> bool:
        """Whether numbers take fewer bits afterwards."""
        return self.bits_per_number is not None and self.bits_per_number < 32  # noqa: PLR2004 - float32

    @property
    def selects(self) -> bool:
        """Whether it chooses, number by number, which ones stay."""
        return self.sparsity in (Sparsity.SELECTS_LARGEST, Sparsity.SELECTS_RANDOM)
