"""A state that others may be changing changes by compare-and-set."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from edgeml_server.db import Database, compare_and_set
from edgeml_server.devices.repository import DeviceRepository
from edgeml_server.devices.tables import DeviceRow

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FACTS = {
    "platform": "new",
    "os_version": "",
    "sdk_version": "",
    "app_version": "",
    "details": {},
    "capabilities": {},
}


@pytest.fixture(autouse=True)
def one_device(database: Database) -> None:
    with database.unit_of_work() as work:
        DeviceRepository(work.session, "org-1").add("a", FACTS, now=NOW)


def change(database: Database, *, expected: str, wanted: str) -> bool:
    with database.unit_of_work() as work:
        return compare_and_set(
            work.session,
            DeviceRow,
            DeviceRow.device_identifier == "a",
            DeviceRow.platform == expected,
            values={"platform": wanted},
        )


def test_the_change_is_made_while_the_state_is_as_expected(database: Database) -> None:
    assert change(database, expected="new", wanted="used")
    assert not change(database, expected="new", wanted="lost")


def test_of_many_rivals_exactly_one_wins(database: Database) -> None:
    wins: list[str] = []

    def attempt(name: str) -> None:
        if change(database, expected="new", wanted=name):
            wins.append(name)

    threads = [threading.Thread(target=attempt, args=(f"t{i}",)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(wins) == 1


def test_the_time_a_device_was_seen_never_goes_backwards(database: Database) -> None:
    with database.unit_of_work() as work:
        devices = DeviceRepository(work.session, "org-1")
        assert devices.touch("a", now=NOW + timedelta(minutes=5))
        assert not devices.touch("a", now=NOW + timedelta(minutes=1))
        device = devices.find_by_identifier("a")

    assert device is not None
    assert device.last_seen_at == NOW + timedelta(minutes=5)
