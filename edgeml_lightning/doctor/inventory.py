"""Checks that only look at the module: its arrays, and how they will travel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch
from torch import nn

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.doctor.findings import Finding, Verdict
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import canonical_name, modules_by_path
from edgeml_lightning.norm_layers import BatchOrInstanceNorm
from edgeml_lightning.partition import partition

__all__ = ["check_arrays", "listed"]

_SHOWN: Final = 4


def listed(names: Iterable[str]) -> str:
    """Return names in a row, cut short where there are many."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def check_arrays(module: nn.Module, *, head_layers: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what can be said of a module without running it.

    Args:
        module: The model, with all its parameters built.
        head_layers: What FedPer would keep on the device; nothing is said of it if empty.
    """
    yield _check_parameters(module)
    yield _check_number_types(module)
    yield _check_buffers(module)
    yield _check_statistics(module)
    yield _check_ties(module)
    if head_layers:
        yield _check_head(module, head_layers)


def _check_parameters(module: nn.Module) -> Finding:
    parameters = list(module.parameters())
    lazy = [
        name for name, tensor in module.named_parameters() if isinstance(tensor, nn.UninitializedParameter)
    ]
    if lazy:
        return Finding(
            check="parameters",
            verdict=Verdict.FAIL,
            found=f"parameters without a shape yet: {listed(lazy)}",
            advice="run one batch through the module before it is registered or federated",
        )
    trained = sum(tensor.numel() for tensor in parameters if tensor.requires_grad)
    frozen = sum(tensor.numel() for tensor in parameters) - trained
    if trained == 0:
        return Finding(
            check="parameters",
            verdict=Verdict.FAIL,
            found=f"no parameter requires a gradient ({frozen:,} frozen), so a round would change nothing",
            advice="unfreeze what is to be trained",
        )
    return Finding(
        check="parameters",
        verdict=Verdict.PASS,
        found=f"{trained:,} to train in {len(parameters)} arrays{f', {frozen:,} frozen' if frozen else ''}",
    )


def _check_number_types(module: nn.Module) -> Finding:
    state = model_state(module)
    odd = [name for name, tensor in state.items() if tensor.is_complex() or tensor.is_quantized]
    if odd:
        return Finding(
            check="number types",
            verdict=Verdict.FAIL,
            found=f"complex or quantized arrays cannot travel: {listed(odd)}",
            advice="hold complex numbers as pairs of real ones, and quantize after training",
        )
    others = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if _is_rounded(tensor)}
    )
    if others:
        return Finding(
            check="number types",
            verdict=Verdict.WARN,
            found=f"arrays in {', '.join(others)}; an update travels and is averaged as float32",
            advice="nothing, unless you rely on more than float32's 24 bits, or on a shorter type's rounding",
        )
    return Finding(check="number types", verdict=Verdict.PASS, found="floating arrays are float32")


def _is_rounded(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype != torch.float32


def _check_buffers(module: nn.Module) -> Finding:
    state = model_state(module)
    parameters = {canonical_name(name) for name, _ in module.named_parameters(remove_duplicate=False)}
    floating = [name for name in state if name not in parameters and state[name].is_floating_point()]
    counters = [name for name in state if name not in parameters and not state[name].is_floating_point()]
    found = f"{len(floating)} floating, {len(counters)} integer or boolean"
    if counters:
        found += f" ({listed(counters)}), which are received and never averaged"
    return Finding(check="buffers", verdict=Verdict.PASS, found=found)


def _check_statistics(module: nn.Module) -> Finding:
    keeping = [
        path
        for path, child in modules_by_path(module)
        if isinstance(child, BatchOrInstanceNorm) and child.running_mean is not None
    ]
    if not keeping:
        return Finding(
            check="batch statistics", verdict=Verdict.PASS, found="no layer keeps running statistics"
        )
    return Finding(
        check="batch statistics",
        verdict=Verdict.WARN,
        found=f"the running statistics of {listed(keeping)} are averaged over devices",
        advice="where devices' data differ much, keep them on the device: FedAvg(buffers='local') or FedBN()",
    )


def _check_ties(module: nn.Module) -> Finding:
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(canonical_name(name))
    tied = [" = ".join(group) for group in names.values() if len(group) > 1]
    if not tied:
        return Finding(check="tied weights", verdict=Verdict.PASS, found="none")
    return Finding(
        check="tied weights",
        verdict=Verdict.PASS,
        found=f"{listed(tied)}: they stay tied, and travel under each name",
    )


def _check_head(module: nn.Module, head_layers: Sequence[str]) -> Finding:
    try:
        split = partition(module, private_layers=head_layers)
    except ConfigurationError as refusal:
        return Finding(
            check="head",
            verdict=Verdict.FAIL,
            found=str(refusal),
            advice="name other layers as the head",
        )
    state = model_state(module)
    kept, sent = (sum(state[name].numel() for name in names) for names in (split.kept, split.sent))
    return Finding(
        check="head",
        verdict=Verdict.PASS,
        found=f"{listed(head_layers)}: {kept:,} numbers stay on the device, {sent:,} travel",
    )
