"""Waiting for a round, and saying so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_info

if TYPE_CHECKING:
    from edgeml_client import FederatedClient
    from edgeml_client.schemas import RoundAssignment

__all__ = ["announce_wait", "find_other_model", "wait_for_round"]


def wait_for_round(client: FederatedClient, *, model: str, wait_s: float) -> RoundAssignment | None:
    """Return the round of ``model`` this device was chosen for; if there is none yet, say so and wait.

    Args:
        wait_s: For how long, in seconds; 0 asks once.

    Returns:
        ``None`` if there was none in that time.
    """
    offered = client.get_round_assignment(model=model)
    if offered is not None or wait_s == 0:
        return offered
    announce_wait(client, model=model, wait_s=wait_s)
    return client.get_round_assignment(model=model, wait_s=wait_s)


def announce_wait(client: FederatedClient, *, model: str, wait_s: float) -> None:
    """Tell the user what the program waits for, where Lightning tells of its devices and its stop.

    Lightning shows these lines to whoever has set up no logging, and a silent minute looks like a fault. A
    round of another model that does wait for this device is named, since the model's name may be wrong.
    """
    other = find_other_model(client, model=model)
    hint = f"; one of model {other!r} waits for this device: is the name right?" if other else ""
    rank_zero_info(f"waiting up to {wait_s:g} s for a round of model {model!r}{hint}")


def find_other_model(client: FederatedClient, *, model: str) -> str | None:
    """Return the id of another model of which a round waits for this device, if there is one."""
    offered = client.get_round_assignment()
    if offered is None or client.get_round_assignment(model=model) is not None:
        return None  # a round of this model may have opened since it was last asked for
    return offered.model_id
