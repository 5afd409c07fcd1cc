"""Everything a running control plane holds: settings, clock, database, files, key."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edgeml_client.clock import Clock, SystemClock
from edgeml_server.auth.secret import server_key
from edgeml_server.blobs import BlobStore, open_blob_store
from edgeml_server.db import Database
from edgeml_server.db.engine import check_workers, database_url
from edgeml_server.db.migrate import upgrade
from edgeml_server.rounds.announcements import Announcements

if TYPE_CHECKING:
    from collections.abc import Generator

    from edgeml_server.settings import Settings

__all__ = ["ControlPlane", "open_control_plane"]

_MAX_CHECKS: Final = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class ControlPlane:
    """What endpoints, commands and background workers are given.

    Attributes:
        key: Keys derived tokens and signed links.
        checks: Runs the checks of updates, a few at a time: a thread keeps the memory in which it decoded one
            for the next, so that the number of threads bounds what all of them take.
        announcements: Wakes those who wait for a change, within this process.
    """

    settings: Settings
    clock: Clock
    database: Database
    blobs: BlobStore
    key: bytes = field(repr=False)
    checks: Executor = field(repr=False)
    announcements: Announcements = field(default_factory=Announcements, repr=False)


@contextmanager
def open_control_plane(settings: Settings, *, clock: Clock | None = None) -> Generator[ControlPlane]:
    """Open the database and the blob store, bring the schema up to date, close both afterwards.

    Raises:
        SetupError: A setting cannot work.
    """
    check_workers(database_url(settings.database_url), workers=settings.workers)
    blobs = open_blob_store(settings.blob_url)
    database = Database(settings.database_url)
    try:
        upgrade(database)
        with ThreadPoolExecutor(_MAX_CHECKS, thread_name_prefix="edgeml-check") as checks:
            yield ControlPlane(
                settings=settings,
                clock=clock or SystemClock(),
                database=database,
                blobs=blobs,
                key=server_key(database, settings.secret_key),
                checks=checks,
            )
    finally:
        database.close()
