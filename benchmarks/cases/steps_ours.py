"""Ours: the exact gradient added before the optimizer's step, and autograd on the term for comparison."""

from __future__ import annotations

from benchmarks.cases.plain import Cases
from benchmarks.cases.steps_plain import MU, run_of, training
from edgeml_lightning.functional import add_proximal_gradient_, proximal_penalty

__all__ = ["cases"]


def cases(network: str, batch_size: int, optimizer: str) -> Cases:
    """Return a step with the term by autograd, a step with its gradient added, and Ditto's two models."""
    plain, by_autograd, by_hook, shared, personal = (
        training(network, batch_size, optimizer) for _ in range(5)
    )
    parameters = list(by_autograd.network.parameters())

    def term() -> object:
        return proximal_penalty(parameters, by_autograd.anchors, mu=MU)

    def add_gradient() -> None:
        add_proximal_gradient_(by_hook.network.parameters(), by_hook.anchors, mu=MU)

    def pull_personal() -> None:
        add_proximal_gradient_(personal.network.parameters(), personal.anchors, mu=MU)

    def ditto() -> None:
        shared.step()
        personal.step_with(before_optimizer=pull_personal)

    return Cases(
        {
            "proximal term by autograd": run_of(lambda: by_autograd.step_with(term=term)),
            "ours, FedProx": run_of(lambda: by_hook.step_with(before_optimizer=add_gradient)),
            "ours, Ditto": run_of(ditto),
        },
        limit=run_of(plain.step),
        num_parameters=sum(parameter.numel() for parameter in parameters),
        is_cold=False,
    )
