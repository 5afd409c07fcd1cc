"""Callbacks that judge one fit, such as ``EarlyStopping``, start every round anew."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Checkpoint

from edgeml_lightning.trainer_facts import callbacks_of

__all__ = ["FreshCallbacks"]


class FreshCallbacks:
    """Remembers the state callbacks have before the first round, and gives it back to them.

    ``EarlyStopping`` would otherwise count its patience over the rounds and end each one after a single
    epoch. Checkpoint callbacks are left alone: what they saved, and what was best so far, belongs to the
    whole training.

    Args:
        trainer: Whose callbacks are meant, before its first fit.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self._states: list[tuple[Callback, dict[str, Any]]] = [
            (callback, copy.deepcopy(callback.state_dict()))
            for callback in callbacks_of(trainer)
            if not isinstance(callback, Checkpoint)
        ]

    def restore_(self) -> None:
        """Give every callback that has a state the state from before the first round."""
        for callback, state in self._states:
            if state:
                callback.load_state_dict(copy.deepcopy(state))
