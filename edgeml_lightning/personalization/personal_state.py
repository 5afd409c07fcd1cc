"""What a device keeps from one round to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor

from edgeml_lightning.errors import PersonalStateError
from edgeml_lightning.naming import is_own
from edgeml_lightning.personalization.optimizer_state import OptimizerState

__all__ = ["PersonalState"]

_MAX_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class PersonalState:
    """The personal part of a model after one round, tied to what it was trained against.

    Attributes:
        model_id: The control plane's name of the global model.
        strategy: The strategy that trained it, such as ``"ditto"``.
        round_id: The round in which it was trained.
        base_version: The global version it was trained against.
        base_digest: The digest of that version's file.
        arrays: By canonical name: the whole personal model for Ditto and APFL, the head for FedPer, and what
            a strategy keeps beside arrays of the module, such as SCAFFOLD's control variates.
        optimizer: What the optimizers remember of them.
    """

    model_id: str
    strategy: str
    round_id: str
    base_version: str
    base_digest: str
    arrays: Mapping[str, Tensor]
    optimizer: OptimizerState = field(default_factory=OptimizerState)

    def require_arrays(self, expected: Mapping[str, Tensor]) -> None:
        """Check that the state has the arrays of ``expected``, by name and shape.

        What a strategy keeps beside the models' may be missing, or no longer expected: it depends on the
        strategy's arguments, such as APFL's ``alpha_rate``, and has an initial value.

        Raises:
            PersonalStateError: It has not; the first differences are listed.
        """
        missing, unknown = set(expected) - set(self.arrays), set(self.arrays) - set(expected)
        problems = [f"{name} is missing" for name in sorted(missing) if not is_own(name)]
        problems += [f"{name} is not in the model" for name in sorted(unknown) if not is_own(name)]
        problems += [
            f"{name} has shape {list(array.shape)} instead of {list(expected[name].shape)}"
            for name, array in sorted(self.arrays.items())
            if name in expected and array.shape != expected[name].shape
        ]
        if problems:
            shown = "; ".join(problems[:_MAX_SHOWN]) + ("; ..." if len(problems) > _MAX_SHOWN else "")
            raise PersonalStateError(f"it does not fit the model: {shown}")

    def to_checkpoint(self) -> dict[str, Any]:
        """Return plain dictionaries, numbers, strings and tensors, as Lightning checkpoints hold them."""
        return {
            "model_id": self.model_id,
            "strategy": self.strategy,
            "round_id": self.round_id,
            "base_version": self.base_version,
            "base_digest": self.base_digest,
            "arrays": dict(self.arrays),
            "optimizer_tensors": dict(self.optimizer.tensors),
            "optimizer_numbers": dict(self.optimizer.numbers),
            "optimizer_kinds": dict(self.optimizer.kinds),
        }

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any]) -> PersonalState:
        """Return what :meth:`to_checkpoint` wrote."""
        return cls(
            model_id=saved["model_id"],
            strategy=saved["strategy"],
            round_id=saved["round_id"],
            base_version=saved["base_version"],
            base_digest=saved["base_digest"],
            arrays=saved["arrays"],
            optimizer=OptimizerState(
                saved["optimizer_tensors"], saved["optimizer_numbers"], saved["optimizer_kinds"]
            ),
        )
