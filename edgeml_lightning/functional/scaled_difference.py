"""One pass of arithmetic over a whole model, in blocks that stay in the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

__all__ = ["add_scaled_difference_", "compiled_scaled_difference_"]

_BLOCK: Final = 256 * 1024
"""Elements per thread: a megabyte of float32. Half and twice as many are as good; a quarter costs calls."""


@torch.no_grad()
def add_scaled_difference_(
    targets: Sequence[Tensor], values: Sequence[Tensor], others: Sequence[Tensor], *, factor: float
) -> None:
    """Add ``factor * (value - other)`` to each target, in place.

    The difference is taken first, in the tensors' own precision: where the two are near each other it is
    exact, and so nothing of it is lost to rounding.

    Large tensors in the memory of the processor are taken block by block, so that a difference is read back
    from the cache: as a whole it would be written to memory and read again. Everything else, a GPU's tensors
    and the shards of FSDP among them, goes through torch's fused forms.

    Args:
        targets: What is added to.
        values: One for each target, of its shape, dtype and device.
        others: The same.
        factor: What the differences are multiplied with.
    """
    block = _BLOCK * torch.get_num_threads()
    kept: dict[torch.dtype, Tensor] = {}
    small: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for triple in zip(targets, values, others, strict=True):
        if _is_blockable(triple, block):
            dtype = triple[0].dtype
            if dtype not in kept:
                kept[dtype] = torch.empty(block, dtype=dtype)
            _add_in_blocks_(*triple, factor=factor, kept=kept[dtype])
        else:
            for group, tensor in zip(small, triple, strict=True):
                group.append(tensor)
    if small[0]:
        # The fused forms that torch's own optimizers use; they have no public name.
        differences = torch._foreach_sub(small[1], small[2])  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] - as said above
        torch._foreach_add_(small[0], differences, alpha=factor)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] - as above


@torch.no_grad()
def compiled_scaled_difference_(
    targets: Sequence[Tensor], values: Sequence[Tensor], others: Sequence[Tensor], *, factor: float
) -> None:
    """Do what :func:`add_scaled_difference_` does, by one kernel that ``torch.compile`` makes.

    It reads every number once and keeps no difference in memory. The first call in a process compiles, which
    takes many seconds and needs a C++ compiler (for tensors on a GPU: Triton).

    Args:
        targets: What is added to.
        values: One for each target, of its shape, dtype and device.
        others: The same.
        factor: What the differences are multiplied with.
    """
    # As a tensor, since a number would be compiled in, and every other one would be compiled again.
    _compiled()(list(targets), list(values), list(others), torch.tensor(factor, dtype=torch.float64))


@functools.cache
def _compiled() -> Callable[[list[Tensor], list[Tensor], list[Tensor], Tensor], None]:
    return torch.compile(_add_plainly_, dynamic=False)  # pyright: ignore[reportUnknownMemberType] - torch's own stub


def _add_plainly_(
    targets: list[Tensor], values: list[Tensor], others: list[Tensor], factor: Tensor
) -> None:  # pragma: no cover - it runs compiled
    for target, value, other in zip(targets, values, others, strict=True):
        target.add_((value - other) * factor)


def _is_blockable(triple: tuple[Tensor, Tensor, Tensor], block: int) -> bool:
    target = triple[0]
    return (
        target.numel() > block
        and target.device.type == "cpu"
        and type(target) is Tensor
        and all(tensor.is_contiguous() and tensor.dtype == target.dtype for tensor in triple)
    )


def _add_in_blocks_(target: Tensor, value: Tensor, other: Tensor, *, factor: float, kept: Tensor) -> None:
    block = kept.numel()
    parts = (torch.split(tensor.view(-1), block) for tensor in (target, value, other))
    for target_part, value_part, other_part in zip(*parts, strict=True):
        length = value_part.numel()
        difference = kept if length == block else kept[:length]
        torch.sub(value_part, other_part, out=difference)
        target_part.add_(difference, alpha=factor)
