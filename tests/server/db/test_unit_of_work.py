"""Only the unit of work commits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from edgeml_server.db import Database
from edgeml_server.devices.repository import DeviceRepository
from edgeml_server.devices.tables import DeviceRow
from edgeml_server.errors import ContradictionError, InvalidContentError, UnavailableError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FACTS = {
    "platform": "",
    "os_version": "",
    "sdk_version": "",
    "app_version": "",
    "details": {},
    "capabilities": {},
}


def add_device(database: Database, identifier: str) -> None:
    with database.unit_of_work() as work:
        DeviceRepository(work.session, "org-1").add(identifier, FACTS, now=NOW)


def identifiers(database: Database) -> list[str]:
    with database.snapshot() as session:
        return list(
            session.scalars(select(DeviceRow.device_identifier).order_by(DeviceRow.device_identifier))
        )


def refuse() -> None:
    raise ContradictionError("no")


def refuse_for_lack_of_connections() -> None:
    raise PoolTimeoutError("QueuePool limit reached")


def fail_after(action: Callable[[], object], *, by: Callable[[], object] = refuse) -> None:
    action()
    by()


def test_leaving_the_block_commits(database: Database) -> None:
    add_device(database, "a")

    assert identifiers(database) == ["a"]


def test_an_exception_takes_everything_back(database: Database) -> None:
    with pytest.raises(ContradictionError), database.unit_of_work() as work:
        fail_after(lambda: DeviceRepository(work.session, "org-1").add("a", FACTS, now=NOW))

    assert identifiers(database) == []


def test_what_a_snapshot_writes_is_discarded(database: Database) -> None:
    with database.snapshot() as session:
        DeviceRepository(session, "org-1").add("a", FACTS, now=NOW)

    assert identifiers(database) == []


def test_actions_run_once_the_change_can_be_seen_by_others(database: Database) -> None:
    seen: list[list[str]] = []

    with database.unit_of_work() as work:
        DeviceRepository(work.session, "org-1").add("a", FACTS, now=NOW)
        work.after_commit(lambda: seen.append(identifiers(database)))
        assert seen == []

    assert seen == [["a"]]


def test_actions_of_a_change_that_failed_never_run(database: Database) -> None:
    ran: list[str] = []

    with pytest.raises(ContradictionError), database.unit_of_work() as work:
        fail_after(lambda: work.after_commit(lambda: ran.append("action")))

    assert ran == []


def test_a_unit_of_work_inside_another_is_refused_instead_of_waiting_for_itself(database: Database) -> None:
    with database.unit_of_work(), pytest.raises(RuntimeError, match="pass it on"), database.unit_of_work():
        pass  # pragma: no cover - never reached

    add_device(database, "a")  # and the failed attempt blocks nobody
    assert identifiers(database) == ["a"]


def test_many_threads_write_without_losing_a_change_or_meeting_a_locked_database(database: Database) -> None:
    threads = [
        threading.Thread(target=lambda start=start: [add_device(database, f"{start}-{i}") for i in range(5)])
        for start in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(identifiers(database)) == 8 * 5


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    add_device(database, "a")

    with database.unit_of_work() as work:
        DeviceRepository(work.session, "org-1").add("b", FACTS, now=NOW)
        assert identifiers(database) == ["a"]


def test_a_number_json_has_no_form_for_is_refused_in_our_terms(database: Database) -> None:
    facts = FACTS | {"details": {"loss": float("nan")}}

    with pytest.raises(InvalidContentError, match="NaN"), database.unit_of_work() as work:
        DeviceRepository(work.session, "org-1").add("a", facts, now=NOW)


def test_a_broken_constraint_is_told_as_a_contradiction(database: Database) -> None:
    insert = text("INSERT INTO server_secrets (name, value) VALUES ('a', 'b')")

    with pytest.raises(ContradictionError), database.unit_of_work() as work:
        fail_after(lambda: work.session.execute(insert), by=lambda: work.session.execute(insert))


@pytest.mark.postgres
def test_what_postgresql_cannot_store_is_refused_in_our_terms(postgres_url: str) -> None:
    database = Database(postgres_url)

    with pytest.raises(InvalidContentError, match="cannot be stored"), database.snapshot() as session:
        session.execute(text("SELECT CAST(:value AS text)"), {"value": "nul \x00"})

    database.close()


def test_a_database_that_is_not_there_is_told_as_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")

    with pytest.raises(UnavailableError, match="not reachable"), database.snapshot() as session:
        session.execute(text("SELECT 1"))

    assert "the database failed" in caplog.text


def test_errors_that_are_ours_to_fix_stay_what_they_are(database: Database) -> None:
    with pytest.raises(ValueError, match="aware"), database.unit_of_work() as work:
        DeviceRepository(work.session, "org-1").touch("a", now=datetime(2030, 1, 1))  # noqa: DTZ001 - the mistake


def test_waiting_for_a_connection_does_not_last_for_ever(database: Database) -> None:
    """A pool that is used up is a server that is busy, not one that failed."""
    with pytest.raises(UnavailableError, match="in use"), database.snapshot():
        fail_after(lambda: None, by=refuse_for_lack_of_connections)
