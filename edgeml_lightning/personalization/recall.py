"""Which of what a device kept a round starts from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from edgeml_lightning.personalization.entry_file import PersonalKey
from edgeml_lightning.personalization.personal_state import PersonalState
from edgeml_lightning.personalization.personal_store import PersonalStore

__all__ = ["recall"]


def recall(
    store: PersonalStore,
    key: PersonalKey,
    *,
    expected: Mapping[str, Tensor],
    round_id: str,
    from_checkpoint: PersonalState | None,
) -> PersonalState | None:
    """Return the personal state to go on from, or ``None`` if the device has none.

    A checkpoint of this very round comes first: training goes on in the middle. Then the newest state in the
    store from before this round. Then a checkpoint of an earlier round, for a device that lost its store.

    Args:
        store: The device's store.
        key: Whose state of which model.
        expected: The arrays the state must have, by name.
        round_id: The round that begins or goes on.
        from_checkpoint: What a Lightning checkpoint held, if training was started from one.

    Raises:
        PersonalStateError: What was found does not fit. It is never deleted.
    """
    if from_checkpoint is not None and (from_checkpoint.model_id, from_checkpoint.strategy) != (
        key.model_id,
        key.strategy,
    ):
        from_checkpoint = None
    if from_checkpoint is None or from_checkpoint.round_id != round_id:
        state = store.find(key, expected=expected, before_round=round_id)
        if state is not None:
            return state
    if from_checkpoint is not None:
        from_checkpoint.require_arrays(expected)
    return from_checkpoint
