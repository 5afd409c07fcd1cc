"""How much noise a clip asks for: the multiplier becomes a standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import Sensitivity
from edgeml_client.filters.noise import GaussianNoiseFilter
from edgeml_client.filters.step import FilterStep

__all__ = ["calibrated"]


def calibrated(steps: Sequence[FilterStep]) -> tuple[FilterStep, ...]:
    """Return the filters, each ``noise_multiplier`` turned into a ``sigma`` by the clip before it.

    Raises:
        FilterConfigError: There is no clip before it in ``steps``, or a filter between the two may
            enlarge the norm, so that the noise would be too small for what it should hide.
    """
    return tuple(_calibrated(step, steps[:number]) for number, step in enumerate(steps))


def _calibrated(step: FilterStep, before: Sequence[FilterStep]) -> FilterStep:
    noise = step.step
    if not isinstance(noise, GaussianNoiseFilter) or noise.noise_multiplier is None:
        return step
    return replace(step, step=noise.calibrated(max_norm=_bound_on_norm(before, noise_type=step.type)))


def _bound_on_norm(before: Sequence[FilterStep], *, noise_type: str) -> float:
    """Return the bound on the norm of an update that ran through ``before``, noise not counted."""
    for step in reversed(before):
        effects = step.step.effects
        if effects.max_norm is not None:
            return effects.max_norm
        if effects.sensitivity is Sensitivity.UNKNOWN:
            raise FilterConfigError(
                f"filter {noise_type!r}: noise_multiplier refers to the bound of a clip, but {step.type!r} "
                f"in front of it may enlarge the norm; write 'gradient_clip' directly before {noise_type!r}"
            )
    raise FilterConfigError(
        f"filter {noise_type!r}: noise_multiplier refers to the bound of a clip, but none stands before it "
        "in its list; write 'gradient_clip' before it, or give sigma"
    )
