"""All workers derive with one key."""

from __future__ import annotations

import threading

from pydantic import SecretStr

from edgeml_server.auth.secret import server_key
from edgeml_server.db import Database


def test_the_key_is_drawn_once_and_then_stays(database: Database) -> None:
    key = server_key(database, None)

    assert len(key) == 32
    assert server_key(database, None) == key


def test_workers_that_start_together_agree(database: Database) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(server_key(database, None))) for _ in range(6)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(keys) == 6
    assert len(set(keys)) == 1


def test_the_operators_own_secret_comes_first_and_is_not_kept(database: Database) -> None:
    key = server_key(database, SecretStr("correct horse"))

    assert server_key(database, SecretStr("correct horse")) == key
    assert server_key(database, None) != key
