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
from edgeml_server import EmbeddedServer
from tests.lightning.federation import Federation, seeded
from tests.lightning.resume.kill_at import SCENES

ROOT: Final = Path(__file__).parents[3]
NUM_POINTS: Final = 20
NUM_ROUNDS: Final = 2
POINTS: Final = [
    ("after replace .safetensors", 1),
    ("backward late", -2),
    ("before replace .safetensors", -2),
    ("after replace .safetensors", -2),
    ("before replace .update", -1),
]
"""What is personal is in place after the first round; in the second a step, and each file of its end."""


class Nursery:
    """Runs devices that may be killed, each in an organization of its own, from one warm process."""

    def __init__(self, process: subprocess.Popen[str], server: EmbeddedServer, folder: Path) -> None:
        self.process, self.server, self.folder = process, server, folder

    def open(self, scene: str, *, name: str) -> dict[str, Any]:
        """Return an order for a new device whose rounds are open."""
        name, played = f"{scene}-{name}", SCENES[scene]
        federation = Federation(self.server, self.folder, org_id=name)
        federation.register_model_state(played.strategy.shared_state(seeded(played.module)))
        auth = federation.enrol_only("device")
        federation.open_rounds(num_rounds=NUM_ROUNDS, config={"filters": list(played.filters)})
        (self.folder / name).mkdir()
        return {
            "scene": scene,
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


class Trace(NamedTuple):
    """What a device leaves behind.

    Attributes:
        updates: What its updates hold, in the order of their rounds.
        kept: What its personal store holds, by file: personal models, optimizers, random streams.
    """

    updates: list[bytes]
    kept: dict[str, bytes]

    @classmethod
    def of(cls, order: dict[str, Any]) -> Trace:
        """Read what the device of an order left; all updates that it wrote for a round must be the same."""
        folder, by_round = Path(order["folder"]), dict[str, set[bytes]]()
        for path in sorted((folder / "updates").iterdir(), key=lambda path: path.stat().st_mtime_ns):
            data = path.read_bytes()
            by_round.setdefault(read_update_header(data).round_id, set()).add(behind_header(data))
        assert all(len(contents) == 1 for contents in by_round.values())
        kept = (folder / "state").rglob("personal/**/*.safetensors")
        return cls(
            [contents.pop() for contents in by_round.values()],
            {path.name: behind_header(path.read_bytes()) for path in kept},
        )


def behind_header(data: bytes) -> bytes:
    """Return the arrays of a file without its header, which names the device."""
    return data[8 + int.from_bytes(data[:8], "little") :]


class Undisturbed(NamedTuple):
    """A device that nobody kills: its events, and what it leaves behind."""

    events: list[str]
    trace: Trace

    @classmethod
    def of(cls, nursery: Nursery, scene: str) -> Undisturbed:
        order = nursery.open(scene, name="undisturbed")
        run = nursery.run(order)
        assert run.status == 0
        return cls(run.events, Trace.of(order))


def killed_and_started_again(nursery: Nursery, scene: str, *, kill_at: int) -> Trace:
    """Kill a new device at an event and start it again; return what it leaves behind."""
    order = nursery.open(scene, name=f"killed-{kill_at}")

    killed = nursery.run(order, kill_at=kill_at)
    again = nursery.run(order)

    assert killed.status == signal.SIGKILL
    assert len(killed.events) == kill_at + 1
    assert again.status == 0
    return Trace.of(order)


@pytest.fixture(scope="module")
def undisturbed(nursery: Nursery) -> Undisturbed:
    return Undisturbed.of(nursery, "fedper")


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

    assert killed_and_started_again(nursery, "fedper", kill_at=kill_at) == undisturbed.trace


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "fedper"])
def test_what_trains_beside_the_model_goes_on_too(nursery: Nursery, scene: str) -> None:
    """A second model, its optimizer and its share of the mixture; control variates; kept optimizers.

    Killed where they change: in a step, and before and after each file that holds a part of them. A control
    variate that changed without its update, or twice, would differ; so would a personal model.
    """
    undisturbed = Undisturbed.of(nursery, scene)
    assert len(undisturbed.trace.updates) == NUM_ROUNDS
    assert len(undisturbed.trace.kept) == NUM_ROUNDS + 1, "a state for each round, and the marks of the last"
    points = [nth(undisturbed.events, *point) for point in POINTS]

    traces = {point: killed_and_started_again(nursery, scene, kill_at=point) for point in points}

    differing = [undisturbed.events[point] for point, trace in traces.items() if trace != undisturbed.trace]
    assert not differing


def nth(events: list[str], name: str, place: int) -> int:
    """Return where an event happens for the ``place``-th time, counted as in a list."""
    return [i for i, event in enumerate(events) if event == name][place]


def test_an_update_that_lies_in_the_outbox_is_sent_and_not_trained_again(
    nursery: Nursery, undisturbed: Undisturbed
) -> None:
    """Killed before the last update leaves: its second run sends it and takes no step."""
    kill_at = max(i for i, name in enumerate(undisturbed.events) if name == "before POST updates")
    order = nursery.open("fedper", name="outbox")
    nursery.run(order, kill_at=kill_at)

    again = nursery.run(order)

    assert again.status == 0
    second_run = again.events[kill_at + 1 :]
    assert "after POST updates" in second_run
    assert not [name for name in second_run if name.startswith("backward")]
    assert Trace.of(order) == undisturbed.trace


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
