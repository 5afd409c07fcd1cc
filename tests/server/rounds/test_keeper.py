"""The keeper finishes what others began, and never lets a round hang."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from edgeml_client.testing import FakeClock
from edgeml_server import EmbeddedServer, Settings
from edgeml_server.plane import ControlPlane, open_control_plane
from edgeml_server.registry.tables import VersionRow
from edgeml_server.rounds.aggregating import MAX_ATTEMPTS, RoundAggregation
from edgeml_server.rounds.keeper import RoundKeeper
from edgeml_server.rounds.tables import RoundRow
from tests.server.rounds.fleet import Fleet, fleet_on


@pytest.fixture
def interrupted(
    database_url: str, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """Organization and id of a round whose process died when all updates were there."""
    with monkeypatch.context() as patched:
        patched.setattr(RoundAggregation, "run", lambda *_args, **_kwargs: None)
        with (
            EmbeddedServer(tmp_path / "data", database_url=database_url, clock=clock) as server,
            fleet_on(server) as fleet,
        ):
            return fleet.org, _answered(fleet)


def _answered(fleet: Fleet) -> str:
    one, two = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2)
    one.answer(1.0)
    two.answer(2.0)
    assert fleet.status(round_id)["state"] == "aggregating"
    return round_id


@pytest.fixture
def reopen(database_url: str, tmp_path: Path, clock: FakeClock) -> Callable[[], EmbeddedServer]:
    return lambda: EmbeddedServer(tmp_path / "data", database_url=database_url, clock=clock)


@pytest.fixture
def plane(database_url: str, tmp_path: Path, clock: FakeClock) -> Iterator[ControlPlane]:
    """The same data without a server, so that a test takes the keeper's steps one by one."""
    settings = Settings(database_url=database_url, blob_url=(tmp_path / "data" / "blobs").as_uri())
    with open_control_plane(settings, clock=clock) as opened:
        yield opened


def test_the_next_start_finishes_a_round_that_was_interrupted(
    interrupted: tuple[str, str], reopen: Callable[[], EmbeddedServer]
) -> None:
    with reopen() as server:
        status = server.wait_for_round(interrupted[1], timeout_s=60)

    assert (status.state, status.new_version, status.num_updates) == ("completed", "2", 2)


def test_on_sqlite_a_lease_of_the_dead_process_does_not_hold_up_the_next(
    interrupted: tuple[str, str], reopen: Callable[[], EmbeddedServer], plane: ControlPlane
) -> None:
    """On PostgreSQL it may be another living process's, and is waited for."""
    _set(plane, interrupted[1], lease_owner="dead", lease_expires_at=plane.clock.now() + timedelta(hours=1))
    if not plane.database.is_sqlite:
        RoundKeeper(plane).step()
        assert _phase(plane, interrupted[1]) == "aggregating"
        return

    with reopen() as server:
        assert server.wait_for_round(interrupted[1], timeout_s=60).state == "completed"


def test_a_lease_that_ran_out_is_taken_over(
    interrupted: tuple[str, str], plane: ControlPlane, clock: FakeClock
) -> None:
    _set(plane, interrupted[1], lease_owner="silent", lease_expires_at=clock.now() + timedelta(seconds=15))
    keeper = RoundKeeper(plane)

    keeper.step()
    before = _phase(plane, interrupted[1])
    clock.advance(15)
    keeper.step()

    assert (before, _phase(plane, interrupted[1])) == ("aggregating", "completed")


def test_two_processes_that_aggregate_at_once_make_one_version(
    interrupted: tuple[str, str], plane: ControlPlane, clock: FakeClock
) -> None:
    """The first one stalls past its lease; the second one publishes; the first one's result is dropped."""
    org_id, round_id = interrupted
    slow = RoundAggregation(plane, org_id, round_id, owner="slow")
    claimed = slow._claim()
    assert claimed is not None
    clock.advance(60)

    RoundAggregation(plane, org_id, round_id, owner="fast").run()
    slow._aggregate_and_settle(claimed, should_stop=lambda: False)

    assert _phase(plane, round_id) == "completed"
    with plane.database.snapshot() as session:
        assert sorted(session.scalars(select(VersionRow.version))) == ["1", "2"]


def test_a_long_aggregation_renews_its_lease(
    interrupted: tuple[str, str], plane: ControlPlane, clock: FakeClock
) -> None:
    """6 of the 15 s are gone after each update: the lease is renewed, and the round is still its own."""
    org_id, round_id = interrupted
    began = clock.now()

    def look() -> bool:
        clock.advance(6)
        return False

    RoundAggregation(plane, org_id, round_id, owner="slow").run(should_stop=look)

    assert _phase(plane, round_id) == "completed"
    assert clock.now() == began + timedelta(seconds=12)


def test_an_aggregation_ends_when_another_process_has_its_lease(
    interrupted: tuple[str, str], plane: ControlPlane, clock: FakeClock
) -> None:
    org_id, round_id = interrupted

    def robbed() -> bool:
        clock.advance(6)
        _set(plane, round_id, lease_owner="robber")
        return False

    RoundAggregation(plane, org_id, round_id, owner="slow").run(should_stop=robbed)

    assert _phase(plane, round_id) == "aggregating"
    assert _row(plane, round_id).lease_owner == "robber"


def test_an_aggregation_that_is_told_to_stop_lets_the_next_process_begin_at_once(
    interrupted: tuple[str, str], plane: ControlPlane
) -> None:
    org_id, round_id = interrupted

    RoundAggregation(plane, org_id, round_id, owner="closing").run(should_stop=lambda: True)
    before = _phase(plane, round_id)
    RoundKeeper(plane).step()

    assert (before, _phase(plane, round_id)) == ("aggregating", "completed")


def test_an_aggregation_that_fails_is_tried_again_and_given_up_in_the_end(
    interrupted: tuple[str, str], plane: ControlPlane, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    _lose_the_updates(plane)
    keeper = RoundKeeper(plane)

    with caplog.at_level(logging.ERROR):
        for _ in range(MAX_ATTEMPTS + 1):
            assert _phase(plane, interrupted[1]) == "aggregating"
            keeper.step()
            clock.advance(60)

    assert _phase(plane, interrupted[1]) == "abandoned"
    assert f"did not succeed in {MAX_ATTEMPTS} tries" in _row(plane, interrupted[1]).reason
    assert "FileNotFoundError" in caplog.text


def test_a_failure_that_passes_costs_one_try(
    interrupted: tuple[str, str], plane: ControlPlane, clock: FakeClock
) -> None:
    hidden = _lose_the_updates(plane)
    keeper = RoundKeeper(plane)
    keeper.step()

    for path, data in hidden.items():
        path.write_bytes(data)
    clock.advance(60)
    keeper.step()

    assert _phase(plane, interrupted[1]) == "completed"
    assert _row(plane, interrupted[1]).num_attempts == 2


def test_a_round_whose_average_is_not_finite_is_abandoned_with_the_reason(fleet: Fleet) -> None:
    """Two deltas of 3e38 overflow the float32 sum; the series goes on from the same base."""
    one, two = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2, num_rounds=2)
    one.answer(3e38)
    two.answer(3e38)

    status = fleet.server.wait_for_round(round_id, timeout_s=60)

    assert status.state == "abandoned"
    assert "would hold NaN or Inf after aggregation" in (status.reason or "")
    assert fleet.server.get_round(status.next_round_id or "").version == "1"


def test_a_median_norm_bound_is_kept_over_http(fleet: Fleet) -> None:
    devices = fleet.add_devices(3)
    round_id = fleet.open_round(min_updates=3, norm_bound="median")
    for device, value in zip(devices, (1.0, 1.0, 1000.0), strict=True):
        device.answer(value)

    fleet.server.wait_for_round(round_id, timeout_s=60)

    np.testing.assert_allclose(fleet.model("2")["w"], 1.0, rtol=1e-6)


def test_a_name_that_is_taken_is_passed_over(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    fleet.server.register_model(org_id=fleet.org, name="m", state=fleet.model(), version="2")
    round_id = fleet.open_round(version="1")
    device.answer()

    status = fleet.server.wait_for_round(round_id, timeout_s=60)

    assert status.new_version == "3"


def test_a_keeper_that_meets_an_error_lives_on(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = RoundKeeper(plane)
    plane.database.engine.dispose()
    monkeypatch.setattr(plane.database, "snapshot", _broken)

    with caplog.at_level(logging.ERROR):
        wait_s = keeper._step_safely()

    assert wait_s > 0
    assert "the round keeper failed" in caplog.text


def test_one_process_hears_of_rounds_that_another_one_opened(database_url: str, tmp_path: Path) -> None:
    """Two control planes on one database, as two workers: a device waits at one of them."""
    with (
        EmbeddedServer(tmp_path / "data", database_url=database_url) as first,
        fleet_on(first) as fleet,
        EmbeddedServer(tmp_path / "data", database_url=database_url) as second,
    ):
        (device,) = fleet.add_devices(1)
        with first.plane.announcements.listening_in_thread(f"device:{device.id}") as listener:
            opened = second.create_round(org_id=fleet.org, model="m")

            assert listener.heard(timeout_s=60)
        assert [entry["round_id"] for entry in device.assignments()] == [opened.round_id]
        assert device.answer().status_code == 201
        assert second.wait_for_round(opened.round_id, timeout_s=60).state == "completed"
        assert first.wait_for_round(opened.round_id, timeout_s=60).new_version == "2"


def _broken() -> None:
    raise OSError("the database is gone")


def _set(plane: ControlPlane, round_id: str, **values: object) -> None:
    with plane.database.unit_of_work() as work:
        work.session.execute(update(RoundRow).where(RoundRow.id == round_id).values(**values))


def _row(plane: ControlPlane, round_id: str) -> RoundRow:
    with plane.database.snapshot() as session:
        row = session.get(RoundRow, round_id)
    assert row is not None
    return row


def _phase(plane: ControlPlane, round_id: str) -> str:
    return _row(plane, round_id).phase


def _lose_the_updates(plane: ControlPlane) -> dict[Path, bytes]:
    """Remove all update files, as a disk that fails does; return them."""
    folder = Path(plane.settings.blob_url.removeprefix("file://")) / "sha256"
    updates = {
        path: path.read_bytes() for path in folder.glob("*/*") if b"edgeml.update" in path.read_bytes()
    }
    assert len(updates) == 2
    for path in updates:
        path.unlink()
    return updates
