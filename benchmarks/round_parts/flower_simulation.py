"""Flower's simulation of the same rounds: Ray actors on one machine share memory, no sockets."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.shapes import states

_GIVEN: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
_MARKS: list[float] = []

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Change the model a little."""
    del context
    torch.set_num_threads(1)
    state = message.content["arrays"].to_torch_state_dict()
    for value in state.values():
        value.add_(1e-4)
    content = RecordDict({"arrays": ArrayRecord(state), "metrics": MetricRecord({"num-examples": 10})})
    return Message(content=content, reply_to=message)


class _Marking(FedAvg):
    """Notes when each round begins."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        _MARKS.append(time.perf_counter())
        return super().configure_train(server_round, arrays, config, grid)


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Run all rounds."""
    del context
    base, _ = states(_GIVEN["size"])
    devices = _GIVEN["num_devices"]
    strategy = _Marking(
        fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=devices, min_available_nodes=devices
    )
    strategy.start(grid=grid, initial_arrays=ArrayRecord(base), num_rounds=_GIVEN["num_rounds"])
    _MARKS.append(time.perf_counter())


def main() -> None:
    """Run the simulation; print when each round began and when the last one ended."""
    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=_GIVEN["num_devices"],
        backend_config={
            "client_resources": {"num_cpus": 1.0, "num_gpus": 0.0},
            "init_args": {"num_cpus": 2, "include_dashboard": False},
        },
    )
    print(json.dumps({"marks": _MARKS}))


if __name__ == "__main__":
    main()
