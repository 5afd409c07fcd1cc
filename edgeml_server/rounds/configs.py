"""What a round asks of its devices: checked when an operator asks for it, spelled for every SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import filters_of, resolve_filters
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.schemas import Capability, RoundConfig
from edgeml_client.updates.array_names import is_under
from edgeml_client.updates.layout import Layout
from edgeml_client.wording import quoted
from edgeml_server.errors import InvalidContentError

__all__ = ["announced_config", "checked_config"]

_MAX_LISTED: Final = 20
_MAX_KEY_LENGTH: Final = 80
_SET_BY_THE_SERVER: Final = ("model_id", "version", "capabilities")


def checked_config(config: RoundConfig, layout: Layout) -> RoundConfig:
    """Return the config with its filters in their canonical spelling.

    Args:
        config: What an operator asks for.
        layout: The arrays of the model.

    Raises:
        InvalidContentError: A key or a filter is unknown, filters stand in a wrong order, a head layer
            matches no array, nothing is left to share, or secure aggregation is asked for.
    """
    if unknown := sorted(config.model_extra or {}):
        known = ", ".join(name for name in RoundConfig.model_fields if name not in _SET_BY_THE_SERVER)
        listed = ", ".join(key[:_MAX_KEY_LENGTH] for key in unknown[:_MAX_LISTED])
        raise InvalidContentError(f"config has the unknown keys {listed}; it takes: {known}")
    if config.secure_aggregation:
        raise InvalidContentError(
            "config.secure_aggregation is true, but this control plane runs no secure aggregation yet; "
            "leave it out, or use another control plane: updates would be readable to the server"
        )
    _check_head(config.head_layers or (), layout)
    try:
        steps = resolve_filters(filters_of(config))
        split_coded_ending(steps)
        for step in steps:
            step.step.check_layout(layout)
    except FilterConfigError as exc:
        raise InvalidContentError(f"config.filters: {exc}") from exc
    num_implied = len(filters_of(config)) - len(config.filters)
    asked_for = steps[num_implied:]
    filters = tuple({"type": step.type, **step.parameters} for step in asked_for)
    return config.model_copy(
        update={"filters": filters, "model_id": None, "version": None, "capabilities": ()}
    )


def announced_config(config: RoundConfig, *, model_id: str, version: str) -> RoundConfig:
    """Return the config as devices are told it: with the model, and filters spelled for every SDK."""
    return config.model_copy(
        update={
            "model_id": model_id,
            "version": version,
            "capabilities": tuple(Capability),
            "filters": tuple(_spelled_for_every_sdk(entry) for entry in config.filters),
        }
    )


def _check_head(head_layers: tuple[str, ...], layout: Layout) -> None:
    for head in head_layers:
        if not any(is_under(spec.name, (head,)) for spec in layout):
            raise InvalidContentError(
                f"config.head_layers names {quoted(head)}, but no array of the model lies there; the arrays "
                f"are {', '.join(layout.names[:_MAX_LISTED])}"
            )
    kept = {spec.name for spec in layout if is_under(spec.name, head_layers)}
    if not layout.floating.without(kept).size:
        raise InvalidContentError(
            "config.head_layers takes the whole model; name only its head"
            if kept
            else "the model holds no floating-point numbers, so there is nothing to aggregate"
        )


def _spelled_for_every_sdk(entry: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a filter under both spellings: an SDK that does not know ours would use its own default."""
    spelled = dict(entry)
    match entry:
        case {"type": "gaussian_noise", "sigma": sigma}:
            spelled["stddev"] = sigma
        case {"type": "sparsification", "top_k": float(fraction) | int(fraction)} | {
            "type": "sparsification",
            "random_k": float(fraction) | int(fraction),
        }:
            spelled["top_k_percent"] = fraction * 100
        case _:
            pass
    return spelled
