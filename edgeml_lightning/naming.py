"""How arrays are called: by the module's own paths, whatever wraps it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

__all__ = ["canonical_name", "modules_by_path", "parameter_names"]

_WRAPPERS = frozenset({"_orig_mod"})
"""Path segments that wrappers insert: ``torch.compile`` puts the module it compiled under ``_orig_mod``."""


def canonical_name(name: str) -> str:
    """Return ``name`` without the segments that wrappers insert.

    Example:
        >>> canonical_name("body._orig_mod.0.weight")
        'body.0.weight'
    """
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)


def modules_by_path(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each submodule with its canonical path; the module itself has the path ``""``."""
    for path, child in cast("Iterator[tuple[str, nn.Module]]", module.named_modules()):
        yield canonical_name(path), child


def parameter_names(module: nn.Module) -> dict[nn.Parameter, str]:
    """Return the canonical name of each parameter; a tied one has the first of its names."""
    return {parameter: canonical_name(name) for name, parameter in module.named_parameters()}
