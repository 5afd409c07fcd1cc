"""One refresh at a time, across threads and across processes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import filelock
import platformdirs

from edgeml_client.errors import TokenStoreError

__all__ = ["LockBusyError", "across_processes"]

logger = logging.getLogger(__name__)


class LockBusyError(TokenStoreError):
    """Another process is at it."""


@contextmanager
def across_processes(name: str, *, directory: Path | None, timeout_s: float) -> Generator[None]:
    """Hold the lock called ``name``, which every process of this user sees.

    Where no lock file can be made, for instance on a read-only disk, the work goes on without one.

    Args:
        name: Any text.
        directory: Where lock files lie; the user's state folder if left out.
        timeout_s: Longest wait for another process, in seconds.

    Raises:
        LockBusyError: Another process held the lock all that time.
    """
    folder = directory or platformdirs.user_state_path("edgeml") / "locks"
    lock = filelock.FileLock(folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=timeout_s)
    except filelock.Timeout:
        raise LockBusyError(
            f"another process has been refreshing the token of {name!r} for more than {timeout_s:g} s: "
            "try again, and look whether that process hangs"
        ) from None
    except (OSError, NotImplementedError) as exc:
        logger.warning("no lock between processes, run one process for each device: %s", exc)
    try:
        yield
    finally:
        lock.release()
