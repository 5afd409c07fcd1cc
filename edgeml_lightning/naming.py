"""How arrays are called: by the module's own paths, whatever wraps it; and with a slash beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar, cast

from torch import nn

__all__ = [
    "PERSONAL_PREFIX",
    "canonical_name",
    "divided_by_prefix",
    "is_companion",
    "is_own",
    "modules_by_path",
    "parameter_names",
    "under_prefix",
    "with_prefix",
]

PERSONAL_PREFIX: Final = "personal/"
"""In front of what belongs to the personal model: each figure it logs, and its arrays where they are kept."""

_Value = TypeVar("_Value")

_WRAPPERS = frozenset({"_orig_mod"})
"""Path segments that wrappers insert: ``torch.compile`` puts the module it compiled under ``_orig_mod``."""


def canonical_name(name: str) -> str:
    """Return ``name`` without the segments that wrappers insert.

    Example:
        >>> canonical_name("body._orig_mod.0.weight")
        'body.0.weight'
    """
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)


def is_companion(name: str) -> bool:
    """Return whether a name is of an array beside the module's: those of a module are paths with dots.

    Example:
        >>> is_companion("scaffold/body.weight"), is_companion("body.weight")
        (True, False)
    """
    return "/" in name


def is_own(name: str) -> bool:
    """Return whether a name is of an array that a strategy keeps beside those of both models.

    Example:
        >>> is_own("apfl/alpha"), is_own("personal/body.weight"), is_own("body.weight")
        (True, False, False)
    """
    return is_companion(name) and not name.startswith(PERSONAL_PREFIX)


def modules_by_path(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each submodule with its canonical path; the module itself has the path ``""``."""
    for path, child in cast("Iterator[tuple[str, nn.Module]]", module.named_modules()):
        yield canonical_name(path), child


def parameter_names(module: nn.Module) -> dict[nn.Parameter, str]:
    """Return the canonical name of each parameter; a tied one has the first of its names."""
    return {parameter: canonical_name(name) for name, parameter in module.named_parameters()}


def with_prefix(values: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    """Return all values, with ``prefix`` in front of their names."""
    return {f"{prefix}{name}": value for name, value in values.items()}


def under_prefix(values: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    """Return the values whose names begin with ``prefix``, by their names without it.

    Example:
        >>> under_prefix({"personal/loss": 1.0, "loss": 2.0}, "personal/")
        {'loss': 1.0}
    """
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def divided_by_prefix(
    values: Mapping[str, _Value], prefix: str
) -> tuple[dict[str, _Value], dict[str, _Value]]:
    """Return the values whose names begin with ``prefix``, without it, and all others.

    Example:
        >>> divided_by_prefix({"personal/w": 1, "w": 2}, "personal/")
        ({'w': 1}, {'w': 2})
    """
    others = {name: value for name, value in values.items() if not name.startswith(prefix)}
    return under_prefix(values, prefix), others
