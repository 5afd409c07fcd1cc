"""Running filters one after the other, with an audit trail."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pydantic import JsonValue

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig, applies_to
from edgeml_client.filters.registry import FilterRegistry
from edgeml_client.filters.result import AuditEntry, FilterResult
from edgeml_client.filters.vector_filter import VectorFilter, secure_generator
from edgeml_client.updates.arrays import State, describe, layout_of, like
from edgeml_client.updates.vector import DeltaVector

__all__ = ["FilterStep", "apply_filters", "filter_vector", "resolve_filters"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FilterStep:
    """A filter that is ready to run.

    Attributes:
        type: Its name in the audit trail.
        step: The filter.
        config: The config entry it came from, if any.
    """

    type: str
    step: DeltaFilter
    config: FilterConfig | None

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """What the audit trail says about it."""
        if isinstance(self.step, VectorFilter) or self.config is None:
            return self.step.parameters
        plain = (bool, int, float, str)
        return {
            key: value for key, value in self.config.items() if key != "type" and isinstance(value, plain)
        }


def resolve_filters(
    filters: Iterable[FilterConfig | DeltaFilter], *, strict: bool = True
) -> tuple[FilterStep, ...]:
    """Return the filters that ``filters`` describe, all checked; do this before training, not after.

    Raises:
        FilterConfigError: A type, a key or a value is wrong.
    """
    steps = (_resolve(entry, strict=strict) for entry in filters)
    return tuple(step for step in steps if step is not None)


def apply_filters(
    delta: State,
    filters: Iterable[FilterConfig | DeltaFilter],
    data_kind: DataKind = DataKind.WEIGHT_DIFF,
    *,
    generator: np.random.Generator | None = None,
    strict: bool = True,
) -> FilterResult:
    """Return ``delta`` after ``filters``, in order; ``delta`` itself is not changed.

    Floating arrays come back as float32, each of the kind it was passed as: torch tensors on the CPU, or
    NumPy arrays; the numbers are the same either way. Integer and boolean arrays pass through untouched.

    Args:
        delta: Names to torch tensors or NumPy arrays.
        filters: Config entries such as ``{"type": "gradient_clip", "max_norm": 1.0}``, and filter objects.
        data_kind: What ``delta`` holds; filters made for other kinds are skipped.
        generator: The source of noise; by default one seeded by the operating system, new for each call.
        strict: Raise for a type that is not registered; ``False`` skips it with a warning.

    Raises:
        FilterConfigError: A type, a key or a value is wrong.
        NonFiniteError: An array holds NaN or Inf, before the first filter or after one of them.
        NormExceededError: ``norm_validation`` refused the update.
        ModelMismatchError: A filter changed names or shapes, or an entry is no array.

    Example:
        >>> import numpy as np
        >>> delta = {"w": np.array([3.0, 4.0])}
        >>> clipped = apply_filters(delta, [{"type": "gradient_clip", "max_norm": 1.0}])
        >>> clipped["w"].round(4).tolist(), clipped.audit_trail[0].norm_before
        ([0.6000000238418579, 0.800000011920929], 5.0)
    """
    steps = resolve_filters(filters, strict=strict)
    floating = {name: value for name, value in delta.items() if describe(name, value).is_averaged}
    vector, trail = filter_vector(floating, steps, data_kind, generator=generator)
    filtered = _views(vector, floating)
    return FilterResult({name: filtered.get(name, value) for name, value in delta.items()}, trail)


def filter_vector(
    floating: State | DeltaVector,
    steps: Iterable[FilterStep],
    data_kind: DataKind = DataKind.WEIGHT_DIFF,
    *,
    generator: np.random.Generator | None = None,
) -> tuple[DeltaVector, tuple[AuditEntry, ...]]:
    """Return floating arrays as one filtered vector, and the audit trail; see :func:`apply_filters`.

    Arrays are copied; a vector is given away: it is filtered in place, and returned.
    """
    vector = floating if isinstance(floating, DeltaVector) else DeltaVector.of(floating)
    examples = vector.views() if isinstance(floating, DeltaVector) else floating
    source = generator or secure_generator()
    norm = vector.norm()
    trail: list[AuditEntry] = []
    for step in steps:
        if applies_to(step.step, data_kind):
            norm_after = _run_(step, vector, examples, norm=norm, generator=source)
            trail.append(_entry(step, vector, norm_before=norm, norm_after=norm_after))
            norm = norm_after
    return vector, tuple(trail)


def _resolve(entry: FilterConfig | DeltaFilter, *, strict: bool) -> FilterStep | None:
    if isinstance(entry, DeltaFilter):
        return FilterStep(FilterRegistry.find_name(type(entry)) or entry.name, entry, None)
    known = ", ".join(FilterRegistry.list_filters())
    if not _is_config(entry):
        raise FilterConfigError(
            f"a filter is a mapping with a 'type', or a DeltaFilter, not {entry!r}; types: {known}"
        )
    filter_type: str = entry["type"]
    filter_class = FilterRegistry.get(filter_type)
    if filter_class is None:
        if strict:
            raise FilterConfigError(f"there is no filter {filter_type!r}; known types: {known}")
        _LOG.warning("skipping filter %r, which is not registered; known types: %s", filter_type, known)
        return None
    return FilterStep(filter_type, filter_class.from_config(entry), entry)


def _is_config(entry: object) -> bool:
    return isinstance(entry, Mapping) and isinstance(cast("FilterConfig", entry).get("type"), str)


def _run_(
    step: FilterStep, vector: DeltaVector, examples: State, *, norm: float, generator: np.random.Generator
) -> float:
    """Filter ``vector`` in place, and return its norm afterwards."""
    if isinstance(step.step, VectorFilter):
        return step.step.apply_knowing_norm_(vector, norm=norm, generator=generator)
    returned = step.step.process(_views(vector, examples), config=step.config)
    if returned is not None:
        vector.layout.require_same_arrays(
            layout_of(returned),
            summary=f"filter {step.type!r} must return the names and shapes it was given:",
            match_dtypes=False,
        )
        vector.values[...] = DeltaVector.of(returned).values
    return vector.norm()


def _views(vector: DeltaVector, examples: State) -> dict[str, Any]:
    return {name: like(examples[name], view) for name, view in vector.items()}


def _entry(step: FilterStep, vector: DeltaVector, *, norm_before: float, norm_after: float) -> AuditEntry:
    return AuditEntry(
        type=step.type,
        parameters=step.parameters,
        norm_before=norm_before,
        norm_after=norm_after,
        kept_fraction=vector.count_nonzero() / max(1, vector.values.size),
    )
