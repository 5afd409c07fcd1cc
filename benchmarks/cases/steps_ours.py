"""Ours: the exact gradient added before the optimizer's step, and autograd on the term for comparison."""

from __future__ import annotations

import functools

from benchmarks.cases.plain import Call, Cases
from benchmarks.cases.steps_plain import MU, compiles, run_of, training
from edgeml_lightning.functional import add_proximal_gradient_, proximal_penalty

__all__ = ["cases"]


def cases(network: str, batch_size: int, optimizer: str) -> Cases:
    """Return a step with the term by autograd, a step with its gradient added, and Ditto's two models.

    The term is added in blocks, as by default, and by a compiled kernel.
    """
    plain, by_autograd, by_hook, shared, personal = (
        training(network, batch_size, optimizer) for _ in range(5)
    )
    parameters = list(by_autograd.network.parameters())

    def term() -> object:
        return proximal_penalty(parameters, by_autograd.anchors, mu=MU)

    def add_gradient(*, compiled: bool) -> None:
        add_proximal_gradient_(by_hook.network.parameters(), by_hook.anchors, mu=MU, compiled=compiled)

    def fedprox(*, compiled: bool) -> Call:
        add = functools.partial(add_gradient, compiled=compiled)
        return run_of(lambda: by_hook.step_with(before_optimizer=add))

    def pull_personal(*, compiled: bool) -> None:
        add_proximal_gradient_(personal.network.parameters(), personal.anchors, mu=MU, compiled=compiled)

    def ditto(*, compiled: bool) -> Call:
        pull = functools.partial(pull_personal, compiled=compiled)

        def step() -> None:
            shared.step()
            personal.step_with(before_optimizer=pull)

        return run_of(step)

    calls = {
        "proximal term by autograd": run_of(lambda: by_autograd.step_with(term=term)),
        "ours, FedProx": fedprox(compiled=False),
        "ours, Ditto": ditto(compiled=False),
    }
    if compiles(network):
        calls["ours, FedProx, compiled"] = fedprox(compiled=True)
        calls["ours, Ditto, compiled"] = ditto(compiled=True)
    return Cases(
        calls,
        limit=run_of(plain.step),
        num_parameters=sum(parameter.numel() for parameter in parameters),
        is_cold=False,
    )
