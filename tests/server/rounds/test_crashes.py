"""A control plane that is killed at random moments loses no update and counts none twice."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgeml_client.clock import SystemClock
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.model_file import digest_of, encode_model
from edgeml_client.updates.update_file import encode_update
from edgeml_server import EmbeddedServer
from edgeml_server.aggregation import Contribution, average_updates, write_next_version
from edgeml_server.rounds.bases import find_base
from tests.server.rounds.fleet import Fleet, FleetDevice
from tests.server.rounds.killable import Killable

NUM_DEVICES, NUM_ROUNDS, NUM_KILLS = 4, 3, 12
BASE = {"w": np.zeros((400, 500), np.float32), "steps": np.array(1)}
CLOCK = SystemClock()


def delta_of(device: int, round_number: int) -> np.ndarray:
    """What a device sends in a round, always the same."""
    return np.random.default_rng([device, round_number]).standard_normal((400, 500)).astype(np.float32)


def samples_of(device: int) -> int:
    return 10 + 7 * device


class StubbornDevice:
    """Asks for work and sends its update until it is told that it counts; then sends it once more."""

    def __init__(self, device: FleetDevice, number: int, url: str, finished: threading.Event) -> None:
        self._device = device
        self._number = number
        self._finished = finished
        device.http.base_url = httpx.URL(f"{url}/api/v1/")
        self.answers: list[tuple[int, int]] = []

    def live(self) -> None:
        while not self._finished.is_set():
            for assignment in self._insist(lambda: self._device.assignments(wait_s=1)) or []:
                self._answer(assignment)

    def _answer(self, assignment: dict[str, Any]) -> None:
        number = assignment["round_number"]
        header = self._device.header(assignment, sample_count=samples_of(self._number))
        body = encode_update(header, {"w": delta_of(self._number, number)})
        for _ in range(2):  # as if the first answer had been lost
            answer = self._insist(lambda: self._device.send(assignment["round_id"], body))
            self.answers.append((number, answer.status_code if answer is not None else 0))

    def _insist(self, call: Callable[[], Any]) -> Any:
        while not self._finished.is_set():
            try:
                return call()
            except (httpx.TransportError, httpx.HTTPStatusError):
                CLOCK.sleep(0.02)
        return None


def expected_digest(folder: Path) -> str:
    """Compute the last version without any control plane, from the same updates in the same order."""
    base = folder / "expected"
    base.write_bytes(encode_model(BASE))
    for round_number in range(1, NUM_ROUNDS + 1):
        contributions = []
        for device in range(NUM_DEVICES):
            header = UpdateHeader(
                round_id="", model_id="", base_version="", base_digest="", device_id="", sample_count=1
            )
            path = folder / f"expected-{device}"
            path.write_bytes(encode_update(header, {"w": delta_of(device, round_number)}))
            contributions.append(Contribution(path, num_samples=samples_of(device), norm=0.0))
        stream = io.BytesIO()
        layout = Layout.from_safetensors_header(base.read_bytes())
        write_next_version(base, average_updates(contributions, layout), stream)
        base = folder / f"expected-base-{round_number}"
        base.write_bytes(stream.getvalue())
    return digest_of(base.read_bytes())


@pytest.mark.timeout(300)
def test_kills_at_random_moments_change_nothing(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    finished = threading.Event()
    with EmbeddedServer(folder, database_url=database_url) as setting_up:
        fleet = Fleet(setting_up)
        setting_up.register_model(org_id=fleet.org, name="killed", state=BASE)
        devices = fleet.add_devices(NUM_DEVICES)
        round_id = setting_up.create_round(
            org_id=fleet.org, model="killed", min_updates=NUM_DEVICES, num_rounds=NUM_ROUNDS
        ).round_id
    rng = random.Random(17)

    with closing(Killable(database_url, folder)) as plane, ThreadPoolExecutor(NUM_DEVICES) as pool:
        stubborn = [StubbornDevice(device, n, plane.url, finished) for n, device in enumerate(devices)]
        living = [pool.submit(device.live) for device in stubborn]
        try:
            for number in range(NUM_KILLS):
                plane.start()
                if number % 3:  # the others may be killed while they start
                    plane.wait_until_it_answers()
                CLOCK.sleep(rng.uniform(0.0, 0.4))
                plane.kill()
            plane.start()
            plane.wait_until_it_answers()
            statuses = _statuses_until_the_end(fleet, plane, round_id)
        finally:
            finished.set()
        for device in living:
            device.result()
    fleet.close()

    assert [(s["state"], s["num_updates"], s["num_samples"]) for s in statuses] == [
        ("completed", NUM_DEVICES, sum(samples_of(n) for n in range(NUM_DEVICES)))
    ] * NUM_ROUNDS
    codes = {code for device in stubborn for _, code in device.answers}
    assert codes <= {200, 201}
    with (
        EmbeddedServer(folder, database_url=database_url) as looking,
        looking.plane.database.snapshot() as session,
    ):
        latest = find_base(session, fleet.org, "killed")
    assert latest.digest == expected_digest(tmp_path)


def _statuses_until_the_end(fleet: Fleet, plane: Killable, round_id: str | None) -> list[dict[str, Any]]:
    fleet.operator.base_url = httpx.URL(f"{plane.url}/api/v1/")
    statuses: list[dict[str, Any]] = []
    while round_id is not None:
        path, params = f"/training/rounds/{round_id}/status", {"wait_s": 30, "until": "ended"}
        status = fleet.operator.get(path, params=params).json()
        if status["state"] in {"completed", "abandoned"}:
            statuses.append(status)
            round_id = status["next_round_id"]
    return statuses
