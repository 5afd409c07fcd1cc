"""Errors of training: each a decision of the user's, all under the client's one tree."""

from __future__ import annotations

from pathlib import Path

from edgeml_client.errors import ConfigurationError, EdgeMLClientError

__all__ = [
    "FederationError",
    "NoRoundAssignedError",
    "PersonalStateError",
    "PersonalStoreError",
    "PersonalStoreFullError",
    "ProcessLostError",
    "UnsupportedTrainingError",
]


class FederationError(EdgeMLClientError):
    """A federated round cannot go on."""


class NoRoundAssignedError(FederationError):
    """The control plane assigned no round to this device in the time it was given.

    Attributes:
        model: The model that was asked for.
        waited_s: For how long, in seconds.
        other_model_id: The id of a model of which a round does wait for this device, if there is one.
    """

    def __init__(self, *, model: str, waited_s: float, other_model_id: str | None = None) -> None:
        waiting = f" A round of model {other_model_id!r} waits for it." if other_model_id else ""
        super().__init__(
            f"no round of model {model!r} was assigned to this device within {waited_s:g} s.{waiting} "
            "Check the model's name and open a round of it on the control plane, raise wait_s, or train "
            'without one: FederatedCallback(..., when_unassigned="train_locally")'
        )
        self.model = model
        self.waited_s = waited_s
        self.other_model_id = other_model_id


class PersonalStateError(FederationError):
    """What this device kept from earlier rounds cannot be used; nothing of it was loaded or deleted."""


class ProcessLostError(FederationError):
    """Another process of this training ended, or gave no sign of life within the process group's timeout.

    Attributes:
        reason: What the backend of ``torch.distributed`` said.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            "another process of this training ended or does not answer, so this one ends too and nothing "
            f"more is uploaded; its own error is in its log. torch.distributed says: {reason}"
        )
        self.reason = reason


class PersonalStoreError(FederationError):
    """What this device would keep cannot be written; what is there was left alone."""


class PersonalStoreFullError(PersonalStoreError):
    """The personal state of a model takes more room than the store may use; what is there was left alone.

    Attributes:
        folder: Where the device's states lie.
        needed_bytes: What the device would keep of this model, with what may not be removed for it.
        max_bytes: What it may use.
    """

    def __init__(self, *, folder: Path, needed_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"the personal state of this model needs {needed_bytes} bytes in {folder}, of which "
            f"max_bytes={max_bytes} allows {max_bytes}; what is there was left alone. Give the PersonalStore "
            "more room, keep a smaller head, or move away what lies in the folders named 'refused'"
        )
        self.folder = folder
        self.needed_bytes = needed_bytes
        self.max_bytes = max_bytes


class UnsupportedTrainingError(ConfigurationError):
    """This training cannot be federated exactly; the message says why and what to do instead."""
