"""Arrays that travel beside the model, one for each shared parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Companions", "NextOwn"]


class NextOwn(Protocol):
    """A function that says what becomes of a device's own companion in a round."""

    def __call__(self, own: Tensor, received: Tensor, /, *, moved: Tensor, step_size: float) -> Tensor:
        """Return the device's own after the round.

        Args:
            own: The device's own before it.
            received: The global one.
            moved: What the round changed in the parameter.
            step_size: The sum of the learning rates of its steps; 0 if it took none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """A float32 array beside each shared parameter that trains, of its shape, such as a control variate.

    The global one is a part of the global model's versions, named ``<strategy>/<parameter>``; every device
    keeps one of its own. All begin as zeros. A round receives the global ones, corrects every gradient,
    replaces the device's own, and sends the change of these with the model's.

    Attributes:
        correction: What is added to a parameter's gradient in every step, from the device's own and the
            received one.
        next_own: What becomes of the device's own.
        share: Which part of its change is sent.
    """

    correction: Callable[[Tensor, Tensor], Tensor]
    next_own: NextOwn
    share: float = 1.0
