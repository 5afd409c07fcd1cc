"""Between a module and named arrays: read its state, check and load a global model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torchmetrics import Metric

from edgeml_client.errors import ModelMismatchError
from edgeml_client.updates.array_names import is_under
from edgeml_lightning.naming import modules_by_path

__all__ = ["check_matches", "clone_arrays", "load_global_", "model_state", "require_loadable"]


def model_state(module: nn.Module) -> dict[str, Tensor]:
    """Return every array of the model by its canonical name, sharing memory with the module.

    Names are free of what ``torch.compile`` inserts. Tied parameters appear under each of their names.
    States of torchmetrics metrics and buffers that are not persistent belong to no model and are absent.
    """
    metrics = [path for path, child in modules_by_path(module) if isinstance(child, Metric)]
    if "" in metrics or next(chain(module.parameters(), module.buffers()), None) is None:
        return {}  # of a module without arrays torch asks a process group
    return {
        name: value
        for name, value in get_model_state_dict(module).items()
        if isinstance(value, Tensor) and not is_under(name, metrics)
    }


def check_matches(
    state: Mapping[str, Tensor], arrays: Mapping[str, Tensor], *, received: Iterable[str], kept: Iterable[str]
) -> None:
    """Check that a global model fits a module.

    Args:
        state: The module's arrays.
        arrays: The global model's arrays. Those the device keeps may differ or be absent.
        received: Names that the module takes from the global model.
        kept: Names that the device keeps.

    Raises:
        ModelMismatchError: A name is missing on either side, or a shape or the kind of number
            differs; every difference is listed.
    """
    wanted, private = set(received), set(kept)
    problems = [f"{name}: absent from the global model" for name in sorted(wanted - set(arrays))]
    problems += [f"{name}: absent from the module" for name in sorted(set(arrays) - wanted - private)]
    for name in sorted(wanted & set(arrays)):
        mine, theirs = state[name], arrays[name]
        if mine.shape != theirs.shape:
            problems.append(f"{name}: {list(mine.shape)} in the module, {list(theirs.shape)} globally")
        elif mine.is_floating_point() != theirs.is_floating_point():
            problems.append(f"{name}: {mine.dtype} in the module, {theirs.dtype} globally")
    if problems:
        raise ModelMismatchError(
            "the module does not fit the global model; change the module, or register another model for it:",
            problems,
        )


def load_global_(module: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    """Copy ``arrays`` into the module, in place: parameters keep their identity, device and dtype.

    Optimizers that hold the parameters stay valid. Arrays of the module that are not named keep their values.

    Args:
        module: The model.
        arrays: Arrays by canonical name, each with the shape of the module's.

    Raises:
        ModelMismatchError: The module has no array of a name, or its shape differs.
    """
    require_loadable(module, arrays)
    set_model_state_dict(module, dict(arrays), options=StateDictOptions(strict=False))


def require_loadable(module: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    """Check that the module has all of ``arrays``, by name and shape.

    Raises:
        ModelMismatchError: It has not; every difference is listed.
    """
    state = model_state(module)
    problems = [f"{name}: absent from the module" for name in sorted(set(arrays) - set(state))]
    problems += [
        f"{name}: {list(state[name].shape)} in the module, {list(array.shape)} given"
        for name, array in sorted(arrays.items())
        if name in state and state[name].shape != array.shape
    ]
    if problems:
        raise ModelMismatchError("the arrays do not fit the module:", problems)


def clone_arrays(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return copies of the named arrays that no longer share memory with the module."""
    return {name: state[name].detach().clone() for name in names}
