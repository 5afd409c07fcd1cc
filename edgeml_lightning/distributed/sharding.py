"""Between a tensor that is sharded over processes (FSDP2's ``DTensor``) and the whole one."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["is_sharded", "placed_like", "whole_tensor"]


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
