"""Errors of training: each a decision of the user's, all under the client's one tree."""

from __future__ import annotations

from edgeml_client.errors import ConfigurationError, EdgeMLClientError

__all__ = [
    "FederationError",
    "NoRoundAssignedError",
    "PersonalStateError",
    "UnsupportedTrainingError",
]


class FederationError(EdgeMLClientError):
    """A federated round cannot go on."""


class NoRoundAssignedError(FederationError):
    """The control plane assigned no round to this device in the time it was given.

    Attributes:
        model: The model that was asked for.
        waited_s: For how long, in seconds.
    """

    def __init__(self, *, model: str, waited_s: float) -> None:
        super().__init__(
            f"no round of model {model!r} was assigned to this device within {waited_s:g} s. Check the "
            "model's name and open a round of it on the control plane, raise wait_s, or train without one: "
            'FederatedCallback(..., when_unassigned="train_locally")'
        )
        self.model = model
        self.waited_s = waited_s


class PersonalStateError(FederationError):
    """What this device kept from earlier rounds cannot be used; nothing of it was loaded or deleted."""


class UnsupportedTrainingError(ConfigurationError):
    """This training cannot be federated exactly; the message says why and what to do instead."""
