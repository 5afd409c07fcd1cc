"""A round that was joined: what every process of a training knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeml_client.schemas import RoundAssignment, UpdateReceipt
from edgeml_client.updates import StreamedDelta
from edgeml_lightning.errors import FederationError
from edgeml_lightning.strategies import FederatedStrategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from edgeml_client.resources.device_round import DeviceRound

__all__ = ["BaseVersion", "JoinedRound"]


@dataclass(frozen=True, slots=True)
class BaseVersion:
    """Which version of the global model a round starts from.

    Attributes:
        version: Its name.
        digest: The digest of its file.
    """

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class JoinedRound:
    """A round this device takes part in.

    A copy in another process knows everything but the connection.

    Attributes:
        assignment: What the control plane asks for.
        strategy: What the round does to training.
        base: Which version of the global model it starts from.
        device_round: The round on the control plane; ``None`` in processes that do not talk to it.
    """

    assignment: RoundAssignment
    strategy: FederatedStrategy
    base: BaseVersion
    device_round: DeviceRound | None = None

    @classmethod
    def of(
        cls, assignment: RoundAssignment, strategy: FederatedStrategy, device_round: DeviceRound
    ) -> JoinedRound:
        """Return a round with its global model downloaded.

        Raises:
            EdgeMLClientError: It could not be had.
        """
        base = device_round.download()
        return cls(assignment, strategy, BaseVersion(base.version, base.digest), device_round)

    def submit(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        *,
        sample_count: int,
        metrics: Mapping[str, float],
        filters: Sequence[Mapping[str, Any]],
    ) -> UpdateReceipt:
        """Upload what training changed; return once the control plane holds it.

        Args:
            before: The arrays that are sent, as they were received.
            after: The same arrays, trained.
            sample_count: Samples behind the update.
            metrics: Figures about the training.
            filters: Applied after those that the round asks for.

        Raises:
            EdgeMLClientError: It was refused, or could not be sent.
        """
        device_round = self._connected()
        layout = device_round.download().layout
        withheld = tuple(spec.name for spec in layout if spec.is_averaged and spec.name not in before)
        return device_round.submit(
            StreamedDelta.between(before, after),
            sample_count=sample_count,
            metrics=metrics,
            private=withheld,
            filters=filters,
        )

    @property
    def num_bytes_received(self) -> int:
        """Bytes of response bodies of this round."""
        return self._connected().num_bytes_received

    @property
    def num_bytes_sent(self) -> int:
        """Bytes of request bodies of this round."""
        return self._connected().num_bytes_sent

    def _connected(self) -> DeviceRound:
        if self.device_round is None:
            raise FederationError("only the first process of a training talks to the control plane")
        return self.device_round

    def __reduce__(self) -> tuple[type[JoinedRound], tuple[RoundAssignment, FederatedStrategy, BaseVersion]]:
        """Return what another process can use."""
        return (JoinedRound, (self.assignment, self.strategy, self.base))
