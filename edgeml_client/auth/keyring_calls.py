"""Calls to the system keyring that always come back."""

from __future__ import annotations

import importlib
import queue
import threading
from dataclasses import dataclass
from typing import Literal

from edgeml_client.errors import TokenStoreError

__all__ = ["keyring_call"]

_REMEDY = "unlock or install a keyring, or set EDGEML_TOKEN_STORAGE to 'file' or 'memory'"


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


def keyring_call(
    function: Literal["get_password", "set_password", "delete_password"], *arguments: str, timeout_s: float
) -> str | None:
    """Return what a function of ``keyring`` returns.

    The call runs in a thread of its own, which is left behind if it hangs: a locked keyring blocks for ever.

    Raises:
        TokenStoreError: There is no keyring, it refused, or it did not answer within ``timeout_s`` seconds.
    """
    outcome: queue.SimpleQueue[str | _Failed | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(getattr(importlib.import_module("keyring"), function)(*arguments))
        except Exception as exc:  # noqa: BLE001 - backends are plugins, and raise whatever they like
            outcome.put(_Failed(exc))

    threading.Thread(target=run, name="edgeml-keyring", daemon=True).start()
    try:
        result = outcome.get(timeout=timeout_s)
    except queue.Empty:
        raise TokenStoreError(
            f"the system keyring did not answer within {timeout_s:g} s (is it locked?): {_REMEDY}"
        ) from None
    if isinstance(result, _Failed):
        # Some backends repeat their arguments in a message, so only its kind is shown.
        raise TokenStoreError(
            f"the system keyring failed ({type(result.error).__name__}): {_REMEDY}"
        ) from None
    return result
