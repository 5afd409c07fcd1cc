"""The device's connection, made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeml_client import FederatedClient, connect
from edgeml_client.errors import ConfigurationError
from edgeml_client.updates.outbox import Outbox
from edgeml_lightning.callbacks.joined_round import JoinedRound
from edgeml_lightning.personalization import PersonalKey, PersonalStore

__all__ = ["Connection"]


class Connection:
    """A client that was handed in, or one that is made on first use and belongs to this object.

    A copy in another process keeps a function that makes a client, and drops a client.

    Args:
        given: A client, a function that makes one, or ``None`` for :func:`edgeml_client.connect`.

    Raises:
        ConfigurationError: It is none of these.
    """

    def __init__(self, given: FederatedClient | Callable[[], FederatedClient] | None) -> None:
        if not (given is None or callable(given) or hasattr(given, "get_round_assignment")):
            raise ConfigurationError(
                f"client must be a FederatedClient, or a function that makes one, not {type(given).__name__}"
            )
        self.given = given
        self._made: FederatedClient | None = None

    def client(self) -> FederatedClient:
        """Return the client.

        Raises:
            ConfigurationError: The environment does not say enough to make one.
        """
        if self.given is not None and not callable(self.given):
            return self.given
        if self._made is None:
            self._made = connect() if self.given is None else self.given()
        return self._made

    def close(self) -> None:
        """Close the client if it was made here; one that was handed in stays open."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def key(self, joined: JoinedRound) -> PersonalKey:
        """Return under which name this device keeps what is personal in a round."""
        client = self.client()
        return PersonalKey(
            org_id=client.org_id,
            device=client.register(),
            model_id=joined.assignment.model_id,
            strategy=joined.strategy.label,
        )

    def personal_store(self) -> PersonalStore:
        """Return the store beside the client's other state."""
        return PersonalStore(self.client().device_dir / "personal")

    def was_refused(self, round_id: str) -> bool:
        """Return whether the control plane refused this device's update of a round for good."""
        return Outbox(self.client().device_dir / "outbox").holds_rejected(round_id)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process can use."""
        return {"given": self.given if callable(self.given) else None, "_made": None}
