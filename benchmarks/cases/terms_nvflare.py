"""NVFlare's handler alone, held against the same bound."""

from __future__ import annotations

from benchmarks.cases.plain import Cases
from benchmarks.cases.steps_nvflare import started_handler
from benchmarks.cases.steps_plain import run_of, training

__all__ = ["cases"]


def cases(network: str) -> Cases:
    """Return what its Lightning handler does between the backward pass and the next batch."""
    subject = training(network, 1, "sgd")
    subject.loss().backward()
    handler = started_handler(subject)

    def handled() -> None:
        handler.before_optimizer_step(subject.optimizer)
        handler.after_train_batch(subject.network)

    return Cases(
        {"NVFlare, Lightning handler": run_of(handled)},
        limit=run_of(subject.pass_over_memory),
        num_parameters=sum(anchor.numel() for anchor in subject.anchors),
        is_cold=False,
    )
