"""The client of a device, for programs with an event loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeml_client._transport.in_thread import in_thread
from edgeml_client.clock import Clock, SystemClock
from edgeml_client.resources.federated_client import FederatedClient

__all__ = ["AsyncFederatedClient"]


class AsyncFederatedClient:
    """The async twin of :class:`FederatedClient`: the same arguments, methods and errors.

    Each call, training included, runs in a worker thread, so the event loop stays free. The methods of a
    :class:`DeviceRound` that :meth:`join_round` returns are synchronous; wrap them in ``asyncio.to_thread``.
    """

    def __init__(  # noqa: PLR0917 - the positions are the synchronous client's
        self,
        auth_token_provider: Callable[[], str] | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        device_identifier: str | None = None,
        platform: str | None = None,
        secure_aggregation: bool = False,  # noqa: FBT001, FBT002 - the position is the published SDK's
        *,
        timeout: float = 20.0,
        download_timeout: float = 120.0,
        max_attempts: int = 4,
        state_dir: Path | str | None = None,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        self._sync = FederatedClient(
            auth_token_provider,
            org_id,
            api_base,
            device_identifier,
            platform,
            secure_aggregation,
            timeout=timeout,
            download_timeout=download_timeout,
            max_attempts=max_attempts,
            state_dir=state_dir,
            clock=clock,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def device_id(self) -> str | None:
        """This device as the control plane knows it; ``None`` before :meth:`register`."""
        return self._sync.device_id

    close = in_thread(FederatedClient.close)
    register = in_thread(FederatedClient.register)
    get_round_assignment = in_thread(FederatedClient.get_round_assignment)
    get_round_status = in_thread(FederatedClient.get_round_status)
    wait_for_round = in_thread(FederatedClient.wait_for_round)
    join_round = in_thread(FederatedClient.join_round)
    participate_in_round = in_thread(FederatedClient.participate_in_round)
    flush_outbox = in_thread(FederatedClient.flush_outbox)
    pull_model = in_thread(FederatedClient.pull_model)
    pull_global_model = in_thread(FederatedClient.pull_global_model)
    get_personalized_model = in_thread(FederatedClient.get_personalized_model)
    get_personalized_state = in_thread(FederatedClient.get_personalized_state)
    upload_personalized_update = in_thread(FederatedClient.upload_personalized_update)
    train_ditto = in_thread(FederatedClient.train_ditto)
    train_fedper = in_thread(FederatedClient.train_fedper)
    get_privacy_budget = in_thread(FederatedClient.get_privacy_budget)
