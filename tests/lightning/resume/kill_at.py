"""A device that is killed: run as a program, it trains rounds in children, each killed at a given event.

Reads one JSON object a line from standard input (see :class:`Order`), forks a child for it, and answers with
one line: the child's exit status and its events. Children are forked from a process that has imported
everything and started no thread. Events are seen from outside: requests on their way out and answers on their
way in, what is forced to disk, renamed and removed, and the hooks of an ordinary callback.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import lightning as L
import torch
from torch.utils.data import DataLoader

from edgeml_client import FederatedClient
from edgeml_lightning import APFL, Ditto, FederatedStrategy, FederatedTrainer, FedPer, Scaffold
from tests.lightning.federation import DigitsNet, digits_of, trainer

SEED = 11


@dataclass(frozen=True)
class Scene:
    """What a device trains.

    Attributes:
        strategy: The strategy of its rounds.
        filters: Those of the rounds.
        momentum: The optimizer's.
        options: Of the trainer of many rounds.
    """

    strategy: FederatedStrategy
    filters: tuple[Mapping[str, Any], ...] = (
        {"type": "error_feedback"},
        {"type": "sparsification", "top_k": 0.1},
        {"type": "quantization", "bits": 4},
    )
    momentum: float = 0.9
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def module(self) -> DigitsNet:
        """Return a module with all that is awkward: dropout, normalization, an optimizer that remembers."""
        return DigitsNet(momentum=self.momentum, dropout=0.3)


SCENES: Final = {
    "fedper": Scene(FedPer(["classifier"])),
    "ditto": Scene(Ditto(0.5)),
    "apfl": Scene(APFL(0.5, alpha_rate=0.1), options={"local_steps": 3, "optimizers": "keep"}),
    "scaffold": Scene(Scaffold(), filters=({"type": "quantization", "bits": 4},), momentum=0.0),
}
"""``ditto`` and ``apfl`` train a second model beside an untouched module, ``scaffold`` control variates."""


class Order(NamedTuple):
    """What one child is to do.

    Attributes:
        scene: One of :data:`SCENES`.
        folder: Where it keeps its state, its events and copies of its updates.
        kill_at: The event at which it kills itself, counted from 0; -1 for none.
    """

    scene: str
    folder: str
    api_base: str
    org_id: str
    token: str
    kill_at: int
    num_rounds: int


ASKING: Final = ("GET rounds", "GET status")
"""What a device asks while it waits for a round; how often depends on how long the others take."""


class Events:
    """Writes down what happens, and ends the process without a word at one of them.

    A device that asks again and again counts as one that asks once, so that the events do not depend on time.
    """

    def __init__(self, order: Order) -> None:
        self.kill_at = order.kill_at
        self.count = 0
        self.last = ""
        self.file = os.open(Path(order.folder) / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def happen(self, name: str) -> None:
        if name.endswith(ASKING) and self.last.startswith("after") and self.last.endswith(ASKING):
            return
        self.last = name
        os.write(self.file, f"{name}\n".encode())
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def around(self, function: Callable[..., Any], describe: Callable[..., str | None]) -> Callable[..., Any]:
        """Return ``function`` with an event before and after, where ``describe`` gives it a name."""

        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            name = describe(*args, **kwargs)
            if name is None:
                return function(*args, **kwargs)
            self.happen(f"before {name}")
            result = function(*args, **kwargs)
            self.happen(f"after {name}")
            return result

        return watched


class Hooks(L.Callback):
    """Tells of the hooks that a user's callback sees, before and after those of the federated one."""

    def __init__(self, events: Events, *, label: str) -> None:
        self.events, self.label = events, label

    @property
    def state_key(self) -> str:
        return f"Hooks{self.label}"

    def on_fit_start(self, *_: Any) -> None:
        self.events.happen(f"on_fit_start {self.label}")

    def on_train_start(self, *_: Any) -> None:
        self.events.happen(f"on_train_start {self.label}")

    def on_train_batch_start(self, *_: Any) -> None:
        self.events.happen(f"batch {self.label}")

    def on_after_backward(self, *_: Any) -> None:
        self.events.happen(f"backward {self.label}")

    def on_train_end(self, *_: Any) -> None:
        self.events.happen(f"on_train_end {self.label}")

    def on_fit_end(self, *_: Any) -> None:
        self.events.happen(f"on_fit_end {self.label}")


def watch(events: Events, folder: Path) -> None:
    """Have everything the process does to the network and the disk told as events."""
    httpx.Client.send = events.around(  # type: ignore[method-assign]
        httpx.Client.send, lambda _, request, **__: f"{request.method} {request.url.path.split('/')[-1]}"
    )

    def kind_of(path: Any) -> str | None:
        return Path(path).suffix or None if str(path).startswith(str(folder)) else None

    replace = os.replace

    def replace_and_copy(source: Any, target: Any) -> None:
        if Path(target).suffix == ".update":
            shutil.copy(source, folder / "updates" / f"{Path(target).stem}.{os.getpid()}")
        replace(source, target)

    os.replace = events.around(replace_and_copy, lambda _, target: f"replace {kind_of(target)}")
    os.fsync = events.around(os.fsync, lambda *_: "fsync")
    os.fdatasync = events.around(os.fdatasync, lambda *_: "fdatasync")


def run(order: Order) -> None:
    """Take part in rounds, as any user's script would."""
    folder = Path(order.folder)
    (folder / "updates").mkdir(exist_ok=True)
    events = Events(order)
    watch(events, folder)
    torch.set_num_threads(1)
    L.seed_everything(SEED, verbose=False)
    scene = SCENES[order.scene]
    module = scene.module()
    client = FederatedClient(
        auth_token_provider=lambda: order.token,
        org_id=order.org_id,
        api_base=order.api_base,
        device_identifier="device",
        state_dir=folder / "state",
    )
    hooks = [Hooks(events, label="early"), Hooks(events, label="late")]
    federated = FederatedTrainer(
        client,
        model="digits",
        strategy=scene.strategy,
        trainer=trainer(*hooks),
        wait_s=10.0,
        **scene.options,
    )
    federated.fit(
        module,
        train_dataloaders=DataLoader(digits_of(0), batch_size=10, shuffle=True),
        rounds=order.num_rounds,
    )


def run_child(order: Order) -> int:
    """Run an order in a child and return the status ``os.waitpid`` gives for it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(2, 1)  # standard output is for answers
            run(order)
            status = 0
        except BaseException:  # noqa: BLE001 - nothing of the parent may go on in the child
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def main() -> None:
    for line in sys.stdin:
        order = Order(**json.loads(line))
        status = run_child(order)
        events = (Path(order.folder) / "events").read_text(encoding="utf-8").splitlines()
        sys.stdout.write(json.dumps({"status": status, "events": events}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
