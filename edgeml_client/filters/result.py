"""What a filter pipeline gives back: the delta, and who did what to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from typing_extensions import override

from edgeml_client.schemas import Record

__all__ = ["AuditEntry", "FilterResult"]


class AuditEntry(Record):
    """One filter that ran.

    Attributes:
        type: The registered name of the filter, or the name of its class.
        parameters: Its parameters under their canonical names.
        norm_before: The L2 norm over all floating arrays before it ran.
        norm_after: The same afterwards.
        kept_fraction: The fraction of all numbers that are not zero afterwards.
        num_bytes: What the update would take if it left the device now, coded as a round codes it: computed
            from the count of numbers and their bits, not by coding it; its header is not in it.
    """

    type: str
    parameters: dict[str, JsonValue]
    norm_before: float
    norm_after: float
    kept_fraction: float
    num_bytes: int


@dataclass(frozen=True, eq=False)
class FilterResult(Mapping[str, Any]):
    """A filtered delta; as a mapping it *is* the delta.

    ``result["layer.weight"]``, ``dict(result)`` and ``len(result)`` see the arrays, so the result goes
    wherever a delta goes. ``result["delta"]`` and ``result["audit_trail"]`` also answer, unless an array has
    that very name.

    Attributes:
        delta: The arrays by name, of the kinds that were passed in; floating ones as float32.
        audit_trail: One entry for each filter that ran, in order.
    """

    delta: dict[str, Any]
    audit_trail: tuple[AuditEntry, ...] = ()

    @override
    def __getitem__(self, key: str) -> Any:
        if key in self.delta:
            return self.delta[key]
        if key in ("delta", "audit_trail"):
            return getattr(self, key)
        raise KeyError(key)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.delta)

    @override
    def __len__(self) -> int:
        return len(self.delta)

    @override
    def __contains__(self, key: object) -> bool:
        return key in self.delta
