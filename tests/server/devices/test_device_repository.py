"""Statements about devices, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

from edgeml_server.db import Database
from edgeml_server.devices.repository import DeviceRepository

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FACTS = {
    "platform": "",
    "os_version": "",
    "sdk_version": "",
    "app_version": "",
    "details": {},
    "capabilities": {},
}


def test_an_identifier_is_one_device_of_an_organization_and_another_in_the_next(database: Database) -> None:
    with database.unit_of_work() as work:
        a, b = DeviceRepository(work.session, "org-a"), DeviceRepository(work.session, "org-b")

        assert a.add("mri-3", FACTS, now=NOW)
        assert not a.add("mri-3", FACTS, now=NOW)
        assert b.add("mri-3", FACTS, now=NOW)

        mine, theirs = a.find_by_identifier("mri-3"), b.find_by_identifier("mri-3")
        assert mine is not None
        assert theirs is not None
        assert a.find(mine.id) == mine
        assert a.find(theirs.id) is None


def test_times_come_back_aware_and_to_the_microsecond(database: Database) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)

    with database.unit_of_work() as work:
        devices = DeviceRepository(work.session, "org-a")
        devices.add("mri-3", FACTS, now=moment)
        device = devices.find_by_identifier("mri-3")

    assert device is not None
    assert device.registered_at == moment
