"""However often an update arrives, and with whatever rivals, it counts exactly once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgeml_client.testing import FakeClock
from edgeml_server import EmbeddedServer
from tests.server.rounds.fleet import Fleet, fleet_on


@pytest.fixture
def busy_fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on a control plane of its own, once on each kind of database."""
    with EmbeddedServer(tmp_path / "data", database_url=database_url) as server, fleet_on(server) as fleet:
        yield fleet


def at_once(calls: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Make all calls at the same moment."""
    barrier = threading.Barrier(len(calls))

    def wait_and_call(call: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))


def codes(answers: Sequence[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def test_the_same_update_eight_times_at_once_counts_once(busy_fleet: Fleet) -> None:
    one, two = busy_fleet.add_devices(2)
    round_id = busy_fleet.open_round(min_updates=2)
    body = one.update(one.assignments()[0])

    answers = at_once([lambda: one.send(round_id, body)] * 8)

    assert codes(answers) == {201: 1, 200: 7}
    assert len({answer.json()["update_id"] for answer in answers}) == 1
    assert busy_fleet.status(round_id)["num_updates"] == 1
    assert two.answer().status_code == 201


def test_however_many_updates_arrive_at_once_a_few_threads_check_them(busy_fleet: Fleet) -> None:
    """A thread keeps the memory in which it decoded: with one for each device it would add up."""
    devices = busy_fleet.add_devices(12)
    busy_fleet.open_round(min_updates=12)

    answers = at_once([device.answer for device in devices])
    checking = {thread.name for thread in threading.enumerate() if thread.name.startswith("edgeml-check")}

    assert codes(answers) == {201: 12}
    assert 1 <= len(checking) <= min(4, os.cpu_count() or 1)


def test_of_eight_different_updates_of_one_device_one_counts(busy_fleet: Fleet) -> None:
    one, _ = busy_fleet.add_devices(2)
    round_id = busy_fleet.open_round(min_updates=2)
    bodies = [one.update(one.assignments()[0], float(value)) for value in range(8)]

    answers = at_once([lambda body=body: one.send(round_id, body) for body in bodies])  # type: ignore[misc]

    assert codes(answers) == {201: 1, 409: 7}
    status = busy_fleet.status(round_id)
    assert (status["num_updates"], status["num_samples"]) == (1, 10)


def test_the_last_updates_of_a_cohort_at_once_end_the_round_once(busy_fleet: Fleet) -> None:
    """Six devices, each number their own: 10 samples each, mean (0 + 1 + ... + 5) / 6 = 2.5."""
    devices = busy_fleet.add_devices(6)
    round_id = busy_fleet.open_round(min_updates=6, num_rounds=2)
    bodies = [device.update(device.assignments()[0], float(n)) for n, device in enumerate(devices)]

    def sender(number: int) -> Callable[[], httpx.Response]:
        return lambda: devices[number].send(round_id, bodies[number])

    answers = at_once([sender(number) for number in range(6)])
    status = busy_fleet.server.wait_for_round(round_id, timeout_s=60)

    assert codes(answers) == {201: 6}
    assert (status.state, status.num_updates, status.num_samples) == ("completed", 6, 60)
    np.testing.assert_allclose(busy_fleet.model("2")["w"], 2.5)
    later = busy_fleet.operator.get("/training/rounds", params={"status": "all"}).json()
    assert [entry["round_number"] for entry in later] == [1, 2]


def test_a_lost_answer_can_be_asked_for_again_even_after_the_end(busy_fleet: Fleet) -> None:
    (device,) = busy_fleet.add_devices(1)
    round_id = busy_fleet.open_round()
    assignment = device.assignments()[0]
    body = device.update(assignment)
    first = device.send(round_id, body)
    busy_fleet.server.wait_for_round(round_id, timeout_s=60)

    again = device.send(round_id, body)
    other = device.send(round_id, device.update(assignment, 2.0))

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json() == {"update_id": first.json()["update_id"], "status": "duplicate"}


def test_devices_that_ask_at_once_draw_one_cohort(busy_fleet: Fleet) -> None:
    devices = busy_fleet.add_devices(4)
    round_id = busy_fleet.open_round(min_updates=4)

    def asker(number: int) -> Callable[[], httpx.Response]:
        return lambda: devices[number].http.get("/training/rounds", params={"wait_s": 20})

    answers = at_once([asker(number) for number in range(4)])

    assert [[entry["round_id"] for entry in answer.json()] for answer in answers] == [[round_id]] * 4
    assert busy_fleet.status(round_id)["num_selected"] == 4


@pytest.fixture
def timed_fleet(tmp_path: Path, clock: FakeClock) -> Iterator[Fleet]:
    """A fleet on a control plane whose time stands still until told to go on."""
    with EmbeddedServer(tmp_path / "data", clock=clock) as server, fleet_on(server) as fleet:
        yield fleet


def end_of(fleet: Fleet, clock: FakeClock, round_id: str, *, after_s: float) -> Any:
    clock.advance(after_s)
    fleet.server.plane.announcements.announce(["keeper"])
    with fleet.server.plane.announcements.listening_in_thread(f"round:{round_id}") as listener:
        while (status := fleet.server.get_round(round_id)).state in {"training", "aggregating"}:
            listener.heard(timeout_s=1)
    return status


def test_at_its_deadline_a_round_is_aggregated_with_what_arrived(
    timed_fleet: Fleet, clock: FakeClock
) -> None:
    one, two, late = timed_fleet.add_devices(3)
    round_id = timed_fleet.open_round(min_updates=2, deadline_s=600)
    missed = late.update(late.assignments()[0])
    one.answer(1.0)
    two.answer(2.0)

    status = end_of(timed_fleet, clock, round_id, after_s=600)

    assert (status.state, status.num_updates) == ("completed", 2)
    np.testing.assert_allclose(timed_fleet.model("2")["w"], 1.5)
    assert late.send(round_id, missed).status_code == 410
    assert late.assignments() == []


def test_a_late_update_is_refused_even_before_the_round_is_swept(
    timed_fleet: Fleet, clock: FakeClock
) -> None:
    (device,) = timed_fleet.add_devices(1)
    round_id = timed_fleet.open_round(deadline_s=600)
    body = device.update(device.assignments()[0])

    clock.advance(600)
    answer = device.send(round_id, body)

    assert answer.status_code == 410
    assert "no longer takes updates" in answer.json()["detail"]


def test_a_round_with_too_few_updates_is_abandoned_and_the_next_starts_from_the_same_base(
    timed_fleet: Fleet, clock: FakeClock
) -> None:
    one, _ = timed_fleet.add_devices(2)
    round_id = timed_fleet.open_round(min_updates=2, num_rounds=2, deadline_s=600)
    one.answer()

    status = end_of(timed_fleet, clock, round_id, after_s=601)

    assert status.state == "abandoned"
    assert status.reason == "the deadline passed with 1 of the 2 updates it needs"
    following = timed_fleet.server.get_round(status.next_round_id or "")
    assert (following.round_number, following.version, following.state) == (2, "1", "training")
    assert one.assignments()[0]["round_id"] == following.round_id


def test_devices_that_were_not_seen_for_a_day_are_not_expected(timed_fleet: Fleet, clock: FakeClock) -> None:
    timed_fleet.add_devices(2)
    clock.advance(25 * 3600)
    (fresh,) = timed_fleet.add_devices(1)

    round_id = timed_fleet.open_round()

    assert timed_fleet.status(round_id)["num_selected"] == 1
    assert len(fresh.assignments()) == 1
