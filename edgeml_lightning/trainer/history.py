"""The rounds one device took part in, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, overload

from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning._frames import frame_of
from edgeml_lightning._one_line import counted

if TYPE_CHECKING:
    import pandas as pd

    from edgeml_lightning.callbacks.round_record import RoundRecord

__all__ = ["History"]

_METRIC_FIELDS = {"received_metrics": "received", "local_metrics": "local", "personal_metrics": "personal"}


class History(Sequence["RoundRecord"]):
    """What :meth:`FederatedTrainer.fit` returns: a record a round, as a sequence and as a table.

    Args:
        records: The rounds, in the order in which they were trained.
        end_reason: Why training stopped before the rounds that were asked for, or ``None`` when all of
            them were trained.

    Example:
        >>> from edgeml_lightning.callbacks.round_record import RoundRecord
        >>> record = RoundRecord(round_id="r-1", model_id="m", base_version="1", strategy="fedavg")
        >>> history = History([record], end_reason="the federation ended")
        >>> history[-1].base_version
        '1'
    """

    def __init__(self, records: Sequence[RoundRecord] = (), *, end_reason: str | None = None) -> None:
        self._records = tuple(records)
        self.end_reason = end_reason

    @overload
    def __getitem__(self, index: int) -> RoundRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RoundRecord, ...]: ...
    @override
    def __getitem__(self, index: int | slice) -> RoundRecord | tuple[RoundRecord, ...]:
        return self._records[index]

    @override
    def __len__(self) -> int:
        return len(self._records)

    @override
    def __iter__(self) -> Iterator[RoundRecord]:
        return iter(self._records)

    @override
    def __repr__(self) -> str:
        ended = f", end_reason={self.end_reason!r}" if self.end_reason else ""
        return f"History({counted(len(self), 'round')}{ended})"

    def best(self, metric: str, *, mode: Literal["min", "max"]) -> RoundRecord:
        """Return the round that received the best global model, as this device measured it before training.

        Its ``base_version`` and ``base_digest`` name the model; ``FederatedTrainer.load_global_`` loads it.
        What the last round led to is measured by the next one.

        Args:
            metric: A name in the records' ``received_metrics``.
            mode: Whether the least or the greatest figure is best; of equals, the earliest wins.

        Raises:
            ConfigurationError: No round measured it.
        """
        measured = [record for record in self if metric in record.received_metrics]
        if not measured:
            known = sorted({name for record in self for name in record.received_metrics})
            raise ConfigurationError(
                f"no round measured {metric!r} of the model it received, but {', '.join(known) or 'nothing'}"
            )
        choose = min if mode == "min" else max
        return choose(measured, key=lambda record: record.received_metrics[metric])

    def to_rows(self) -> list[dict[str, object]]:
        """Return one flat row a round, with the fields of the record.

        Its measurements are ``received/<name>``, ``local/<name>`` and ``personal/<name>``.
        """
        return [_flat(record) for record in self]

    def to_frame(self) -> pd.DataFrame:
        """Return the rows of :meth:`to_rows` as a pandas frame, indexed by ``round_number``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame_of(self.to_rows(), index=["round_number"])


def _flat(record: RoundRecord) -> dict[str, object]:
    row: dict[str, object] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if (prefix := _METRIC_FIELDS.get(field.name)) is None:
            row[field.name] = value
        else:
            row.update({f"{prefix}/{name}": figure for name, figure in value.items()})
    return row
