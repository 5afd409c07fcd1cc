"""The proximal term alone, held against the memory traffic that it cannot avoid."""

from __future__ import annotations

import torch

from benchmarks.cases.plain import Cases
from benchmarks.cases.steps_plain import MU, compiles, run_of, training
from edgeml_lightning.functional import add_proximal_gradient_, proximal_penalty

__all__ = ["cases"]


def cases(network: str) -> Cases:
    """Return our term and autograd's.

    The bound reads parameter, anchor and gradient and writes the gradient, once each: a multiply-add of three
    vectors as long as the model, in one pass of torch's own kernel.
    """
    subject = training(network, 1, "sgd")
    subject.loss().backward()
    parameters = list(subject.network.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    gradient, weights, anchor = torch.zeros(size), torch.randn(size), torch.randn(size)

    def bound() -> None:
        gradient.addcmul_(weights, anchor, value=1e-6)

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
        limit=run_of(bound),
        num_parameters=size,
        is_cold=False,
    )
