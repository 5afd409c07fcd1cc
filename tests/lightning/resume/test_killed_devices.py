"""A device that is killed at any point of a round sends, started again, the update it would have sent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from edgeml_client.updates.update_file import read_update_header
from edgeml_lightning import FedPer
from edgeml_server import EmbeddedServer
from tests.lightning.federation import DigitsNet, Federation, seeded

ROOT: Final = Path(__file__).parents[3]
NUM_POINTS: Final = 20
NUM_ROUNDS: Final = 2
FILTERS: Final = [
    {"type": "error_feedback"},
    {"type": "sparsification", "top_k": 0.1},
    {"type": "quantization", "bits": 4},
]


class Nursery:
    """Runs devices that may be killed, each in an organization of its own, from one warm process."""

    def __init__(self, process: subprocess.Popen[str], server: EmbeddedServer, folder: Path) -> None:
        self.process, self.server, self.folder = process, server, folder

    def open(self, name: str) -> dict[str, Any]:
        """Return an order for a new device whose rounds are open."""
        federation = Federation(self.server, self.folder, org_id=name)
        federation.register_model_state(FedPer(["classifier"]).shared_state(seeded(DigitsNet)))
        auth = federation.enrol_only("device")
        federation.open_rounds(num_rounds=NUM_ROUNDS, config={"filters": FILTERS})
        (self.folder / name).mkdir()
        return {
            "folder": str(self.folder / name),
            "api_base": self.server.api_base,
            "org_id": name,
            "token": auth.get_access_token_sync(),
            "num_rounds": NUM_ROUNDS,
        }

    def run(self, order: dict[str, Any], *, kill_at: int = -1) -> Run:
        """Start the device, and return what came of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**order, "kill_at": kill_at}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return Run(answer["status"], answer["events"])


class Run(NamedTuple):
    """How a device ended, and its events from its first start on."""

    status: int
    events: list[str]


@pytest.fixture(scope="module")
def nursery(control_plane: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    command = [sys.executable, "-m", "tests.lightning.resume.kill_at"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield Nursery(process, control_plane, tmp_path_factory.mktemp("devices"))
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(nursery: Nursery) -> Undisturbed:
    order = nursery.open("undisturbed")
    run = nursery.run(order)
    assert run.status == 0
    return Undisturbed(run.events, sent_updates(order))


class Undisturbed(NamedTuple):
    """What a device does that nobody kills: its events, and the arrays of its updates by round number."""

    events: list[str]
    updates: list[bytes]


def sent_updates(order: dict[str, Any]) -> list[bytes]:
    """Return what the updates hold, in the order of their rounds; all that a round wrote must be the same."""
    by_round: dict[str, set[bytes]] = {}
    files = sorted(Path(order["folder"], "updates").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in files:
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")  # behind the header, which names the device
        by_round.setdefault(read_update_header(data).round_id, set()).add(data[start:])
    assert all(len(contents) == 1 for contents in by_round.values())
    return [contents.pop() for contents in by_round.values()]


def spread_over(events: list[str]) -> list[int]:
    """Return the events at which to kill, spread evenly from the first request to the last answer."""
    last = max(i for i, name in enumerate(events) if name == "after POST updates")
    return [round(point * last / (NUM_POINTS - 1)) for point in range(NUM_POINTS)]


@pytest.mark.parametrize("point", range(NUM_POINTS))
def test_a_killed_device_goes_on_as_if_nothing_had_happened(
    nursery: Nursery, undisturbed: Undisturbed, point: int
) -> None:
    """SIGKILL at one of twenty points of two rounds, then the same script again: the same updates, bitwise.

    With dropout, shuffling, momentum, a head that stays on the device and its optimizer state, and error
    feedback, whose residual changes in one step with the update.
    """
    kill_at = spread_over(undisturbed.events)[point]
    order = nursery.open(f"killed-{point}")

    killed = nursery.run(order, kill_at=kill_at)
    again = nursery.run(order)

    assert killed.status == signal.SIGKILL
    assert len(killed.events) == kill_at + 1
    assert again.status == 0
    assert sent_updates(order) == undisturbed.updates


def test_an_update_that_lies_in_the_outbox_is_sent_and_not_trained_again(
    nursery: Nursery, undisturbed: Undisturbed
) -> None:
    """Killed before the last update leaves: its second run sends it and takes no step."""
    kill_at = max(i for i, name in enumerate(undisturbed.events) if name == "before POST updates")
    order = nursery.open("outbox")
    nursery.run(order, kill_at=kill_at)

    again = nursery.run(order)

    assert again.status == 0
    second_run = again.events[kill_at + 1 :]
    assert "after POST updates" in second_run
    assert not [name for name in second_run if name.startswith("backward")]
    assert sent_updates(order) == undisturbed.updates


def test_the_points_lie_in_every_part_of_a_round(undisturbed: Undisturbed) -> None:
    """Assignment, download, loading, steps, personal state, outbox and upload are all among the events."""
    names = Counter(undisturbed.events)

    assert len(set(spread_over(undisturbed.events))) == NUM_POINTS
    for part in (
        "after GET rounds",
        "before GET download",
        "on_fit_start late",
        "backward early",
        "on_train_end early",
        "before replace .safetensors",
        "before replace .update",
        "before POST updates",
    ):
        assert names[part] >= NUM_ROUNDS, (part, names)
