"""A device that dies at any moment neither loses what an update left out nor sends anything twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from edgeml_client.filters import resolve_filters
from edgeml_client.resources.update_making import make_update
from edgeml_client.updates import DeltaVector, open_update
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.outbox import Outbox
from tests.envelopes import envelope

NUM_ROUNDS = 3
SIZE = 40
STEPS = resolve_filters([{"type": "error_feedback"}, {"type": "sparsification", "top_k": 0.25}])
LAYOUT = DeltaVector.of({"w": np.zeros(SIZE, np.float32)}).layout
CONTEXT = multiprocessing.get_context("forkserver")
"""Not forked from here, where threads of other tests may hold a lock at that moment."""
CONTEXT.set_forkserver_preload([__name__])
DURABLE_STEPS = ("fsync", "fdatasync", "replace", "unlink")


def delta(round_number: int) -> np.ndarray:
    """Whole numbers, so that all sums are exact."""
    return np.random.default_rng(round_number).integers(-50, 51, SIZE).astype(np.float32)


def outbox_of(folder: Path) -> Outbox:
    return Outbox(folder / "outbox", residuals=ResidualStore(folder / "residuals"))


def send_all(folder: Path) -> None:
    """Deliver what waits; the other side keeps the first update of each round."""
    outbox = outbox_of(folder)
    for update in outbox.pending():
        held = folder / "held" / update.header.round_id
        if not held.exists():
            held.write_bytes(update.path.read_bytes())
        outbox.remove(update)


def take_part(folder: Path) -> None:
    """Do what a device does from its start on, until all rounds are answered."""
    (folder / "held").mkdir(parents=True, exist_ok=True)
    send_all(folder)
    for number in range(NUM_ROUNDS):
        round_id = f"r-{number}"
        if (folder / "held" / round_id).exists():
            continue
        outbox = outbox_of(folder)
        made = make_update(
            {"w": delta(number)},
            STEPS,
            header_for=lambda trail, round_id=round_id: envelope(round_id=round_id, filters=trail),  # type: ignore[misc]
            layout=LAYOUT,
            residuals=outbox.residuals,
            allow_coded=True,
        )
        outbox.put(made.data, left_out=made.left_out)
        send_all(folder)


def live(folder: Path, dies_at: int, report: Connection) -> None:
    """Run a device in this process, and kill it right before its ``dies_at``-th step on the disk."""
    num_steps = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal num_steps
            num_steps += 1
            if num_steps == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return step

    for name in DURABLE_STEPS:
        setattr(os, name, counted(getattr(os, name)))
    take_part(folder)
    report.send(num_steps)


def run_device(folder: Path, *, dies_at: int = 0) -> int | None:
    """Return how many steps on the disk a device took, ``None`` if it was killed."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    device = CONTEXT.Process(target=live, args=(folder, dies_at, theirs))
    device.start()
    theirs.close()
    try:
        return int(ours.recv())
    except EOFError:
        return None
    finally:
        device.join()
        device.close()
        ours.close()


def sent_and_kept(folder: Path) -> np.ndarray:
    total = DeltaVector.of({"w": np.zeros(SIZE, np.float32)})
    kept = outbox_of(folder).residuals.open(LAYOUT, model_id="m", round_id="after")
    assert not kept.is_empty
    kept.add_to_(total.values, start=0)
    for file in sorted((folder / "held").iterdir()):
        for _, array in open_update(file, LAYOUT).arrays():
            total.values[...] += array
    return total.values


def test_nothing_is_lost_or_sent_twice_wherever_a_device_dies(tmp_path: Path) -> None:
    """Over all rounds, what was sent plus what is kept equals the sum of what was trained, exactly."""
    trained = sum((delta(number) for number in range(NUM_ROUNDS)), np.zeros(SIZE, np.float32))
    num_steps = run_device(tmp_path / "whole")
    assert num_steps is not None
    assert num_steps > 20
    np.testing.assert_array_equal(sent_and_kept(tmp_path / "whole"), trained)

    for dies_at in range(1, num_steps + 1):
        folder = tmp_path / str(dies_at)
        assert run_device(folder, dies_at=dies_at) is None
        assert run_device(folder) is not None
        assert len(list((folder / "held").iterdir())) == NUM_ROUNDS
        np.testing.assert_array_equal(sent_and_kept(folder), trained, err_msg=f"died at step {dies_at}")
        assert not list((folder / "outbox").glob("*.prepared"))


def test_two_deaths_in_a_row_change_nothing_either(tmp_path: Path) -> None:
    trained = sum((delta(number) for number in range(NUM_ROUNDS)), np.zeros(SIZE, np.float32))

    for first in range(2, 16, 2):
        for second in range(1, 8, 2):
            folder = tmp_path / f"{first}-{second}"
            run_device(folder, dies_at=first)
            run_device(folder, dies_at=second)
            run_device(folder)
            np.testing.assert_array_equal(sent_and_kept(folder), trained, err_msg=f"{first}, {second}")
