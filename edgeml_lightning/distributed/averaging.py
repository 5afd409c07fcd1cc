"""What ``DistributedDataParallel`` does for the model it wraps, for one that it does not wrap."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["average_gradients_", "broadcast_buffers_"]


@torch.no_grad()
def average_gradients_(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes of the default group.

    A gradient that a process does not have counts as zero; one that no process has stays ``None``.

    Args:
        parameters: The same in every process, in the same order.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    has_gradient = [parameter.grad is not None for parameter in trained]
    used = torch.tensor(has_gradient, device=trained[0].device).to(torch.int32)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)  # pyright: ignore[reportUnknownMemberType] - torch.distributed is untyped
    world_size = dist.get_world_size()
    averaged = [parameter for parameter, is_used in zip(trained, used, strict=True) if is_used.item()]
    for kind, group in _by_kind(averaged):
        total = torch.cat([_gradient(parameter).reshape(-1).to(*kind) for parameter in group])
        dist.all_reduce(total.div_(world_size))  # pyright: ignore[reportUnknownMemberType] - as above
        sizes = [parameter.numel() for parameter in group]
        for parameter, mean in zip(group, torch.split(total, sizes), strict=True):
            _gradient(parameter).copy_(mean.view_as(parameter))


@torch.no_grad()
def broadcast_buffers_(module: nn.Module) -> None:
    """Give every process the buffers of the first one."""
    for buffer in module.buffers():
        dist.broadcast(buffer, src=0)


def _by_kind(parameters: Iterable[Tensor]) -> list[tuple[tuple[torch.device, torch.dtype], list[Tensor]]]:
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for parameter in parameters:
        groups.setdefault((parameter.device, parameter.dtype), []).append(parameter)
    return list(groups.items())


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
