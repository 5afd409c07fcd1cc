"""The proximal term alone, held against the memory traffic that it cannot avoid."""

from __future__ import annotations

from benchmarks.cases.plain import Cases
from benchmarks.cases.steps_plain import MU, compiles, run_of, training
from edgeml_lightning.functional import add_proximal_gradient_, proximal_penalty

__all__ = ["cases"]


def cases(network: str) -> Cases:
    """Return our term and autograd's; the bound is one pass over parameter, anchor and gradient."""
    subject = training(network, 1, "sgd")
    subject.loss().backward()
    parameters = list(subject.network.parameters())

    def hook() -> None:
        add_proximal_gradient_(parameters, subject.anchors, mu=MU)

    def compiled() -> None:
        add_proximal_gradient_(parameters, subject.anchors, mu=MU, compiled=True)

    def by_autograd() -> None:
        proximal_penalty(parameters, subject.anchors, mu=MU).backward()

    calls = {"ours": run_of(hook), "by autograd": run_of(by_autograd)}
    if compiles(network):
        calls["ours, compiled"] = run_of(compiled)
    return Cases(
        calls,
        limit=run_of(subject.pass_over_memory),
        num_parameters=sum(parameter.numel() for parameter in parameters),
        is_cold=False,
    )
