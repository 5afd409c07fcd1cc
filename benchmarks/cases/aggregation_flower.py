"""Flower: FedAvg over the replies of a round, all of which its strategy is handed at once."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvg

from benchmarks.cases.plain import Cases
from benchmarks.cases.streaming import sample_counts, stream
from benchmarks.cases.updates_flower import as_message
from benchmarks.shapes import num_parameters, states

__all__ = ["cases"]


def cases(size: str, *, num_updates: int) -> Cases:
    """Return its aggregation; for the peak of memory the replies are made inside, as a round makes them."""
    _, updated = states(size)
    strategy = FedAvg()
    held: list[object] = []

    def replies() -> list[object]:
        return [as_message(updated, sample_count=count) for count in sample_counts(num_updates)]

    def aggregate() -> int:
        held.extend([] if held else replies())
        strategy.aggregate_train(1, held)
        return 0

    def receive_and_aggregate() -> int:
        strategy.aggregate_train(1, replies())
        return 0

    return Cases(
        {"FedAvg": aggregate},
        limit=stream(lambda: updated, num_updates=num_updates),
        num_parameters=num_parameters(size),
        for_peak={"FedAvg": receive_and_aggregate},
    )
