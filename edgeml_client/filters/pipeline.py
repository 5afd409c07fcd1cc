"""Running filters one after the other, with an audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from edgeml_client.filters.audit import RanFilter, audited
from edgeml_client.filters.built_in import BUILT_IN
from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig
from edgeml_client.filters.promises import Promises
from edgeml_client.filters.resolve import resolve_filters
from edgeml_client.filters.result import FilterResult
from edgeml_client.filters.step import FilterStep
from edgeml_client.filters.vector_filter import VectorFilter, secure_generator
from edgeml_client.updates.arrays import State, describe, layout_of, like
from edgeml_client.updates.streamed_delta import StreamedDelta
from edgeml_client.updates.vector import DeltaVector

__all__ = ["apply_filters", "run_filters_"]


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
        strict: Raise for a type that is not registered and for a wrong order, see :func:`resolve_filters`;
            ``False`` logs a warning instead.

    Raises:
        FilterConfigError: A type, a key, a value or the order is wrong, a name matches no array, or a filter
            of your own did not do what it declares.
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
    steps = resolve_filters(filters, data_kind=data_kind, strict=strict)
    floating = {name: value for name, value in delta.items() if describe(name, value).is_averaged}
    streamed = StreamedDelta.of(floating)
    for step in steps:
        step.step.check_layout(streamed.layout)
    vector, norm = streamed.vector()
    ran = run_filters_(vector, steps, norm=norm, examples=floating, generator=generator)
    trail = tuple(audited(ran, vector))
    filtered = _views(vector, floating)
    return FilterResult({name: filtered.get(name, value) for name, value in delta.items()}, trail)


def run_filters_(
    vector: DeltaVector,
    steps: Iterable[FilterStep],
    *,
    norm: float | None = None,
    examples: State | None = None,
    generator: np.random.Generator | None = None,
) -> Iterator[RanFilter]:
    """Filter ``vector`` in place, and yield each filter once it ran.

    Args:
        vector: It holds the numbers so far whenever a filter is yielded.
        steps: Filters, resolved for what the vector holds.
        norm: Its L2 norm, if that was just taken.
        examples: For each array one of the kind that the user's own filters get; by default NumPy arrays.
        generator: The source of noise; by default one seeded by the operating system.

    Raises:
        FilterConfigError: A filter of the user's own did not do what it declares.
        NonFiniteError: An array holds NaN or Inf, before the first filter or after one of them.
        NormExceededError: ``norm_validation`` refused the update.
        ModelMismatchError: A filter changed names or shapes.
    """
    source = generator or secure_generator()
    norm = vector.norm() if norm is None else norm
    for step in steps:
        before = norm
        norm = _run_(step, vector, examples or vector.views(), norm=before, generator=source)
        yield RanFilter(step, norm_before=before, norm_after=norm)


def _run_(
    step: FilterStep, vector: DeltaVector, examples: State, *, norm: float, generator: np.random.Generator
) -> float:
    """Filter ``vector`` in place, and return its norm afterwards."""
    if isinstance(step.step, VectorFilter) and type(step.step) in BUILT_IN:
        return step.step.apply_knowing_norm_(vector, norm=norm, generator=generator)
    promises = Promises.of(step, vector, norm=norm)
    norm_after = _run_own_(step, vector, examples, norm=norm, generator=generator)
    promises.require_kept(vector, norm=norm_after)
    return norm_after


def _run_own_(
    step: FilterStep, vector: DeltaVector, examples: State, *, norm: float, generator: np.random.Generator
) -> float:
    """Do the same for a filter that is not built in; what it declares is not checked here."""
    if isinstance(step.step, VectorFilter) and step.step.works_on_vectors:
        return step.step.apply_knowing_norm_(vector, norm=norm, generator=generator)
    views = _views(vector, examples)
    passed = dict(views)
    returned = step.step.process(passed, config=None if isinstance(step.step, VectorFilter) else step.config)
    result = passed if returned is None else returned  # a filter may put new arrays into what it was passed
    vector.layout.require_same_arrays(
        layout_of(result),
        summary=f"filter {step.type!r} must return the names and shapes it was given:",
        match_dtypes=False,
    )
    if any(array is not views[name] for name, array in result.items()):
        vector.values[...] = DeltaVector.of(result).values
    return vector.norm()


def _views(vector: DeltaVector, examples: State) -> dict[str, Any]:
    return {name: like(examples[name], view) for name, view in vector.items()}
