"""What one device did in one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from typing_extensions import override

from edgeml_lightning._one_line import counted, headline, kilobytes

__all__ = ["RoundRecord"]

NO_METRICS: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round as this device saw it; a line of a :class:`~edgeml_lightning.trainer.history.History`.

    Attributes:
        round_number: Counts from 1 within the ``num_rounds`` rounds of the federation.
        base_version: The global version the device received and trained from.
        base_digest: The digest of that version's file.
        strategy: The name of the strategy that trained, such as ``"ditto"``.
        num_steps: Optimizer steps taken on the shared model.
        num_bytes_received: Bytes of response bodies of this round, the global model above all.
        num_bytes_sent: Bytes of request bodies of this round, the update above all.
        duration_s: From the assignment to the end of the upload.
        update_status: ``"accepted"`` or ``"duplicate"``; ``None`` when nothing was uploaded, because no
            optimizer step was taken, or because what is sent rested in all of them.
        received_metrics: Validation of the global model as it was received, before training.
        local_metrics: What the module logged while it trained and validated locally.
        personal_metrics: Validation of the device's personal model after training; empty for strategies
            that keep none.
    """

    round_id: str
    model_id: str
    base_version: str
    strategy: str
    base_digest: str = ""
    round_number: int | None = None
    num_rounds: int | None = None
    sample_count: int = 0
    num_steps: int = 0
    num_bytes_received: int = 0
    num_bytes_sent: int = 0
    duration_s: float = 0.0
    update_status: str | None = None
    received_metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS)
    local_metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS)
    personal_metrics: Mapping[str, float] = field(default_factory=lambda: NO_METRICS)

    @override
    def __str__(self) -> str:
        """Say in one line what was done."""
        number = self.round_id if self.round_number is None else f"round {self.round_number}"
        series = "" if self.num_rounds is None else f" of {self.num_rounds}"
        models = {
            "received": self.received_metrics,
            "local": NO_METRICS if self.received_metrics else self.local_metrics,
            "personal": self.personal_metrics,
        }
        shown = {model: found for model, metrics in models.items() if (found := headline(metrics))}
        figures = [f"{model} {name} {figure:.3g}" for model, (name, figure) in shown.items()]
        return (
            f"{number}{series} ({self.strategy}): {counted(self.num_steps, 'step')} on "
            f"{counted(self.sample_count, 'sample')}, sent {kilobytes(self.num_bytes_sent)}, "
            f"{self.duration_s:.1f} s, {self.update_status or 'nothing uploaded'}; "
            f"{', '.join(figures) or 'nothing measured'}"
        )
