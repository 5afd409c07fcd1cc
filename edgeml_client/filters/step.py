"""A filter that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import JsonValue

from edgeml_client.filters.delta_filter import DeltaFilter, FilterConfig
from edgeml_client.filters.vector_filter import VectorFilter

__all__ = ["FilterStep"]


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

    def for_round(self, round_id: str) -> FilterStep:
        """Return the filter as it works in one round."""
        return replace(self, step=self.step.for_round(round_id))

    def for_upload(self) -> dict[str, JsonValue]:
        """Return what an update tells the control plane: which filter, with which parameters.

        What it measured stays on the device: the norm before clipping, or before noise, is private.
        """
        return {"type": self.type, "parameters": self.parameters}
