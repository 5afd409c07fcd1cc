"""Two processes that run one function together, and what each of them returned."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

NUM_RANKS = 2

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.lightning.distributed.scenarios"])


@dataclass(frozen=True)
class Outcome:
    """What one process came to: a value, or an error, whose traceback are its words."""

    value: Any
    error: BaseException | None
    words: str


def run_ranks(scenario: Callable[..., Any], *args: Any, timeout_s: float = 90.0) -> list[Outcome]:
    """Run ``scenario(*args)`` in two processes that Lightning finds started, and return both outcomes.

    Nothing outlives the call: a process that has not ended by ``timeout_s`` is killed, and that is an error.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(NUM_RANKS)]
    processes = [
        _CONTEXT.Process(target=_rank, args=(rank, port, sender, scenario, args), daemon=True)
        for rank, (_, sender) in enumerate(pipes)
    ]
    until_s = time.monotonic() + timeout_s
    try:
        for process in processes:
            process.start()
        for _, sender in pipes:
            sender.close()
        return [_received(receiver, until_s) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def values_of(scenario: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
    """Return what the scenario returned in each process; fail with what it raised."""
    outcomes = run_ranks(scenario, *args, **options)
    problems = [outcome.words for outcome in outcomes if outcome.error is not None]
    assert not problems, "\n".join(problems)
    return [outcome.value for outcome in outcomes]


def _received(receiver: Connection, until_s: float) -> Outcome:
    if not receiver.poll(max(0.0, until_s - time.monotonic())):
        return Outcome(None, TimeoutError(), "a process did not end in time")
    try:
        return receiver.recv()
    except EOFError as exc:
        return Outcome(None, exc, "a process ended without a word")


def _rank(rank: int, port: int, sender: Connection, scenario: Callable[..., Any], args: Any) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(NUM_RANKS),
        "RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    value, error = None, None
    try:
        value = scenario(rank, *args)
    except Exception as exc:  # noqa: BLE001 - the parent decides what it means
        error = exc
    words = "" if error is None else "".join(traceback.format_exception(error))
    sender.send(Outcome(value, error and RuntimeError(words), words))
