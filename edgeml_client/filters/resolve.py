"""From what a config says to filters that are ready to run, all checked: types, parameters and order."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.calibration import calibrated
from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig, applies_to
from edgeml_client.filters.order import order_problems
from edgeml_client.filters.registry import FilterRegistry
from edgeml_client.filters.step import FilterStep
from edgeml_client.schemas import RoundConfig
from edgeml_client.updates.update_file import MAX_TRAIL_BYTES
from edgeml_client.wording import quoted

__all__ = ["filters_of", "resolve_announced", "resolve_filters"]

_LOG = logging.getLogger(__name__)


def resolve_filters(
    filters: Iterable[FilterConfig | DeltaFilter],
    *,
    data_kind: DataKind = DataKind.WEIGHT_DIFF,
    behind: Sequence[FilterStep] = (),
    strict: bool = True,
) -> tuple[FilterStep, ...]:
    """Return the filters that ``filters`` describe, all checked; do this before training, not after.

    Their order is checked from what each declares (:class:`FilterEffects`): noise before clipping, top-k
    after noise, quantization before sparsification, and anything after masking are refused. A
    ``noise_multiplier`` takes its ``sigma`` from the clip before it in ``filters``.

    Args:
        filters: Config entries and filter objects, in order.
        data_kind: What they are to be applied to. Those made for other kinds are checked and then left out:
            they neither bound a norm nor stand in anyone's way.
        behind: Filters that run before these; they are not returned.
        strict: Refuse an unknown type or a wrong order; ``False`` logs a warning instead, skips the unknown
            type, and keeps the order.

    Raises:
        FilterConfigError: A type, a key, a value or the order is wrong, or names take too many bytes for an
            update.

    Example:
        >>> clip, noise = {"type": "gradient_clip", "max_norm": 1.0}, {"type": "gaussian_noise", "sigma": 0.1}
        >>> [str(step.step.effects.sensitivity) for step in resolve_filters([clip, noise])]
        ['bounds', 'randomizes']
    """
    steps = _all_resolved(filters, data_kind, strict=strict)
    _require_short((*behind, *steps))
    for problem in order_problems(steps, behind=behind):
        if strict:
            raise FilterConfigError(str(problem))
        _LOG.warning("%s", problem)
    return steps


def filters_of(config: RoundConfig) -> tuple[FilterConfig, ...]:
    """Return what a round asks to be applied to an update, in order: ``clip_norm`` first.

    A server that repeats ``clip_norm`` as the first filter is not taken to mean it twice.
    """
    clip: tuple[FilterConfig, ...] = (
        () if config.clip_norm is None else ({"type": "gradient_clip", "max_norm": config.clip_norm},)
    )
    return clip + config.filters if config.filters[:1] != clip else config.filters


def resolve_announced(config: RoundConfig) -> tuple[FilterStep, ...]:
    """Return the filters that a round asks of this device.

    The operator of a control plane decides what a round may cost in accuracy or bytes, and other control
    planes check no order: one that costs no more than that is logged and kept. An order that protects the
    device's update less than it looks is refused.

    Raises:
        FilterConfigError: A type, a key or a value is wrong, names take too many bytes for an update, or
            such an order is asked for.
    """
    steps = _all_resolved(filters_of(config), DataKind.WEIGHT_DIFF, strict=True)
    _require_short(steps)
    for problem in order_problems(steps):
        if problem.breaks_privacy:
            raise FilterConfigError(str(problem))
        _LOG.warning("the round asks for an unfortunate order, which is kept: %s", problem)
    return steps


def _require_short(steps: Sequence[FilterStep]) -> None:
    """Refuse filters that an update could not tell of: each update names those that it went through."""
    num_bytes = [_num_bytes_in_header(step) for step in steps]
    if sum(num_bytes) > MAX_TRAIL_BYTES:
        longest = steps[num_bytes.index(max(num_bytes))]
        raise FilterConfigError(
            f"the filters and their parameters take {sum(num_bytes)} bytes in an update, most of them "
            f"{longest.type!r}; at most {MAX_TRAIL_BYTES} fit: name modules or patterns instead of arrays"
        )


def _num_bytes_in_header(step: FilterStep) -> int:
    """Return what a filter takes in a file's header, where the envelope is JSON in a string of JSON."""
    entry = json.dumps(step.for_upload(), ensure_ascii=False)
    return len(json.dumps(entry, ensure_ascii=False).encode(errors="surrogatepass"))


def _all_resolved(
    filters: Iterable[FilterConfig | DeltaFilter], data_kind: DataKind, *, strict: bool
) -> tuple[FilterStep, ...]:
    steps = _resolved(filters, strict=strict)
    return calibrated(tuple(step for step in steps if applies_to(step.step, data_kind)))


def _resolved(filters: Iterable[FilterConfig | DeltaFilter], *, strict: bool) -> Iterator[FilterStep]:
    known = ", ".join(FilterRegistry.list_filters())
    for entry in filters:
        if isinstance(entry, DeltaFilter):
            yield FilterStep(FilterRegistry.find_name(type(entry)) or entry.name, entry, None)
            continue
        filter_type = _type_of(entry)
        if filter_type is None:
            raise FilterConfigError(
                f"a filter is a mapping with a 'type', or a DeltaFilter, not {quoted(entry)}; types: {known}"
            )
        filter_class = FilterRegistry.get(filter_type)
        if filter_class is not None:
            yield FilterStep(filter_type, filter_class.from_config(entry), entry)
        elif strict:
            raise FilterConfigError(f"there is no filter {quoted(filter_type)}; known types: {known}")
        else:
            _LOG.warning(
                "skipping filter %s, which is not registered; known types: %s", quoted(filter_type), known
            )


def _type_of(entry: object) -> str | None:
    """Return the type that a config entry names; ``None`` if it is no such entry."""
    named = cast("FilterConfig", entry).get("type") if isinstance(entry, Mapping) else None
    return named if isinstance(named, str) else None
