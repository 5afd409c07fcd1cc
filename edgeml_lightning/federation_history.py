"""A whole federation over its rounds, as the simulation sees it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, overload

from typing_extensions import override

from edgeml_lightning._frames import frame_of
from edgeml_lightning._one_line import counted, headline, kilobytes

if TYPE_CHECKING:
    import pandas as pd

    from edgeml_lightning.callbacks.round_record import RoundRecord

__all__ = ["DeviceRecord", "FederationHistory", "FederationRound", "ModelKind"]

ModelKind = Literal["global", "personal"]
"""Which model was measured: the one all devices share, or the one a device keeps for itself."""

_NO_METRICS: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """One device after one round.

    Attributes:
        training: What the device did in the round; ``None`` when it was not in the cohort.
        global_metrics: The new global model, measured on this device's held-out data.
        personal_metrics: The device's personal model, measured on the same data; empty while it has none.
    """

    device: str
    training: RoundRecord | None = None
    global_metrics: Mapping[str, float] = field(default_factory=lambda: _NO_METRICS)
    personal_metrics: Mapping[str, float] = field(default_factory=lambda: _NO_METRICS)

    def metrics(self, kind: ModelKind) -> Mapping[str, float]:
        """Return the measurements of the model that ``kind`` names."""
        return self.global_metrics if kind == "global" else self.personal_metrics


@dataclass(frozen=True, kw_only=True)
class FederationRound:
    """All devices after one round.

    Attributes:
        round_number: Counts from 1.
        version: The global version this round produced.
        duration_s: From the first assignment to the last measurement.
        devices: One record a device, in the order of the simulation's data modules.
    """

    round_number: int
    version: str
    duration_s: float
    devices: tuple[DeviceRecord, ...]

    @override
    def __str__(self) -> str:
        """Say in one line what came of the round."""
        models: tuple[ModelKind, ...] = ("global", "personal")
        figures = [text for kind in models if (text := self._headline(kind))]
        return (
            f"round {self.round_number}: version {self.version}, "
            f"{len(self.participants)} of {counted(len(self.devices), 'device')} trained, "
            f"sent {kilobytes(self.num_bytes_sent)}, {self.duration_s:.1f} s; "
            f"{', '.join(figures) or 'nothing measured'}"
        )

    def _headline(self, kind: ModelKind) -> str:
        """Return the mean and the spread of the one figure to show, or nothing."""
        found = headline({name: 0.0 for record in self.devices for name in record.metrics(kind)})
        if found is None:
            return ""
        mean, spread = (measure(found[0], of=kind) for measure in (self.mean, self.spread))
        return f"{kind} {found[0]} {mean:.3g} (spread {spread:.2g})"

    @property
    def participants(self) -> tuple[str, ...]:
        """The names of the devices that trained."""
        return tuple(record.device for record in self.devices if record.training is not None)

    @property
    def num_bytes_sent(self) -> int:
        """Bytes that left the devices, updates above all."""
        return sum(record.training.num_bytes_sent for record in self.devices if record.training)

    @property
    def num_bytes_received(self) -> int:
        """Bytes that reached the devices, global models above all."""
        return sum(record.training.num_bytes_received for record in self.devices if record.training)

    def per_device(self, metric: str, *, of: ModelKind) -> dict[str, float]:
        """Return one figure a device, of the devices that have it."""
        return {
            record.device: record.metrics(of)[metric]
            for record in self.devices
            if metric in record.metrics(of)
        }

    def mean(self, metric: str, *, of: ModelKind) -> float | None:
        """Return the mean over devices, each counting once; ``None`` when no device has the figure."""
        figures = self.per_device(metric, of=of).values()
        return statistics.fmean(figures) if figures else None

    def spread(self, metric: str, *, of: ModelKind) -> float | None:
        """Return the (population) standard deviation over devices; ``None`` when none has the figure."""
        figures = self.per_device(metric, of=of).values()
        return statistics.pstdev(figures) if figures else None


class FederationHistory(Sequence[FederationRound]):
    """What :func:`edgeml_lightning.simulation.simulate` returns: the rounds in order, also as a table.

    Args:
        rounds: One entry a round.
        strategy: The name of the strategy the devices trained with.
        seed: The seed that gives these figures again.
    """

    def __init__(self, rounds: Sequence[FederationRound] = (), *, strategy: str, seed: int) -> None:
        self._rounds = tuple(rounds)
        self.strategy = strategy
        self.seed = seed

    @overload
    def __getitem__(self, index: int) -> FederationRound: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[FederationRound, ...]: ...
    @override
    def __getitem__(self, index: int | slice) -> FederationRound | tuple[FederationRound, ...]:
        return self._rounds[index]

    @override
    def __len__(self) -> int:
        return len(self._rounds)

    @override
    def __iter__(self) -> Iterator[FederationRound]:
        return iter(self._rounds)

    @override
    def __repr__(self) -> str:
        return f"FederationHistory({self.strategy}, {counted(len(self), 'round')}, seed={self.seed})"

    def to_rows(self) -> list[dict[str, object]]:
        """Return one flat row for each device and round.

        Its measurements are ``global/<name>`` and ``personal/<name>``.
        """
        return [_flat(round_, record) for round_ in self for record in round_.devices]

    def to_frame(self) -> pd.DataFrame:
        """Return the rows of :meth:`to_rows` as a pandas frame, indexed by round and device.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame_of(self.to_rows(), index=["round_number", "device"])


def _flat(round_: FederationRound, record: DeviceRecord) -> dict[str, object]:
    training = record.training
    return {
        "round_number": round_.round_number,
        "device": record.device,
        "version": round_.version,
        "participated": training is not None,
        "sample_count": training.sample_count if training else 0,
        "num_bytes_sent": training.num_bytes_sent if training else 0,
        "num_bytes_received": training.num_bytes_received if training else 0,
        **{f"global/{name}": figure for name, figure in record.global_metrics.items()},
        **{f"personal/{name}": figure for name, figure in record.personal_metrics.items()},
    }
