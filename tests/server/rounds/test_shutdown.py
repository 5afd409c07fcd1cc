"""Stopping a control plane, and what is left of a round when it has ended."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeml_server import EmbeddedServer
from edgeml_server.rounds.forgetting import forget_updates
from tests.server.rounds.fleet import Fleet
from tests.server.rounds.killable import Killable


@pytest.mark.timeout(240)
def test_a_device_that_waits_is_answered_when_the_process_is_told_to_stop(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'control-plane.db'}"
    with EmbeddedServer(tmp_path, database_url=database_url) as setting_up:
        fleet = Fleet(setting_up)
        (device,) = fleet.add_devices(1)
    answers: list[list[dict[str, Any]]] = []

    with closing(Killable(database_url, tmp_path)) as plane:
        plane.start()
        plane.wait_until_it_answers()
        device.http.base_url = httpx.URL(f"{plane.url}/api/v1/")
        assert device.assignments() == []
        waiting = threading.Thread(target=lambda: answers.append(device.assignments(wait_s=30)))
        waiting.start()
        waiting.join(2.0)  # the request is on its way; nothing outside the process shows that it has arrived
        plane.kill(signal.SIGTERM)
        waiting.join()
    fleet.close()

    assert answers == [[]]


def test_the_updates_of_a_round_that_has_ended_are_forgotten(fleet: Fleet) -> None:
    one, two = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2)
    one.answer(1.0)
    folder = Path(fleet.server.plane.settings.blob_url.removeprefix("file://")) / "sha256"

    def update_files() -> list[Path]:
        return [path for path in folder.glob("*/*") if round_id.encode() in path.read_bytes()]

    forget_updates(fleet.server.plane, round_id)
    assert len(update_files()) == 1  # the round has not ended
    two.answer(2.0)
    fleet.server.wait_for_round(round_id, timeout_s=60)

    forget_updates(fleet.server.plane, round_id)

    assert update_files() == []
    assert fleet.status(round_id)["num_updates"] == 2
    assert fleet.model("2")["w"].tolist() == [[1.5] * 3] * 2


def test_a_file_that_is_also_a_model_is_not_forgotten(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()
    body = device.update(device.assignments()[0])
    fleet.server.register_model(org_id=fleet.org, name="copycat", state=body)
    device.send(round_id, body)
    fleet.server.wait_for_round(round_id, timeout_s=60)

    forget_updates(fleet.server.plane, round_id)

    models = {model["name"]: model["id"] for model in fleet.operator.get("/models").json()["models"]}
    path = f"/models/{models['copycat']}/versions/1/download"
    assert fleet.operator.get(path, params={"format": "safetensors"}).content == body
