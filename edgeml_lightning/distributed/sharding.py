"""Between a tensor that is sharded over processes (FSDP2's ``DTensor``) and the whole one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["is_sharded", "placed_like", "reshard_", "whole_tensor"]


def is_sharded(tensor: Tensor) -> bool:
    """Return whether this process may hold only a part of ``tensor``."""
    return isinstance(tensor, DTensor)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor, which all its processes ask for together; an ordinary one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(whole: Tensor, other: Tensor) -> Tensor:
    """Return a copy of ``whole`` with the device and dtype of ``other``, and sharded as it is.

    Args:
        whole: The same in every process.
        other: A tensor of its shape.
    """
    copy = whole.detach().to(other.device, other.dtype, copy=True)
    if not isinstance(other, DTensor):
        return copy
    return distribute_tensor(copy, other.device_mesh, other.placements, src_data_rank=None)


def reshard_(module: nn.Module) -> None:
    """Let a module hold the shards again where a forward pass without a backward one left the whole.

    FSDP2 leaves the parameters of a root module whole after its forward pass, as other objects than those of
    the optimizers, and only the backward pass puts the shards back. After a validation their names, and
    optimizers built from them, would be those of objects that no training updates.
    """
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
