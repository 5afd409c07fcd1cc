"""FedRep: first the personal head under the shared body, then the body under the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.strategies.fedper import FedPer
from edgeml_lightning.strategies.turns import Turn

__all__ = ["FedRep"]


@dataclass(frozen=True)
class FedRep(FedPer):
    """Train the head alone in the first epochs of a round, then the body alone; share the body.

    Collins et al., 2021, https://arxiv.org/abs/2102.07078, Algorithm 1. What rests has its gradient dropped
    before clipping and the optimizer's step, so no momentum or weight decay moves it either;
    ``requires_grad`` stays as it is. Buffers follow every forward pass, as in the authors' code.

    Args:
        head_layers: As in :class:`FedPer`.
        head_epochs: How many epochs the head trains, at least 1; the Trainer's others train the body.
            ``None`` takes the round's.

    Raises:
        ConfigurationError: ``head_layers`` is one string, or ``head_epochs`` is less than 1.

    Example:
        >>> FedRep(["classifier"], head_epochs=2).min_epochs
        3
    """

    name: ClassVar[str] = "fedrep"
    round_fields: ClassVar[tuple[str, ...]] = ("head_layers", "head_epochs")

    head_epochs: int | None = None

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        is_whole = isinstance(self.head_epochs, int) and not isinstance(self.head_epochs, bool)
        if self.head_epochs is not None and not (is_whole and self.head_epochs >= 1):
            raise ConfigurationError(
                f"head_epochs must be a whole number, at least 1, not {self.head_epochs!r}"
            )

    @property
    @override
    def turns(self) -> Sequence[Turn]:
        return Turn("kept", self.head_epochs or 0), Turn("shared")
