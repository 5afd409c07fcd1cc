"""Everything an organization does with its control plane, behind one object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeml_client._transport.closing import AsyncClosing, Closing
from edgeml_client._transport.http import HttpTransport
from edgeml_client.config import resolve_config
from edgeml_client.resources.async_registry import AsyncModelRegistry
from edgeml_client.resources.experiments import AsyncExperimentsAPI, ExperimentsAPI
from edgeml_client.resources.federation import AsyncFederation, Federation
from edgeml_client.resources.registry import ModelRegistry
from edgeml_client.resources.rollouts import AsyncRolloutsAPI, RolloutsAPI

if TYPE_CHECKING:
    from edgeml_client.resources.federated_client import FederatedClient

__all__ = ["AsyncEdgeML", "EdgeML"]


class EdgeML(Closing):
    """The registry, rollouts, experiments and federation of one organization, over shared connections.

    Args:
        auth_token_provider: Returns the access token for the next request.
        org_id: The organization; from ``EDGEML_ORG_ID`` if left out.
        api_base: Address of the API; from ``EDGEML_API_BASE`` if left out.
        timeout: Longest silence of the control plane, in seconds.

    Attributes:
        registry: Models and their versions.
        rollouts: Bringing versions to devices.
        experiments: Comparing versions on devices.
        federation: The organization's default federation.

    Raises:
        ConfigurationError: An argument or variable cannot work.
    """

    def __init__(
        self,
        auth_token_provider: Callable[[], str] | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        *,
        timeout: float = 20.0,
    ) -> None:
        config = resolve_config(org_id=org_id, api_base=api_base)
        self.org_id = config.org_id
        self.api = HttpTransport(
            api_base=config.api_base, auth_token_provider=auth_token_provider, timeout=timeout
        )
        self._auth_token_provider = auth_token_provider
        self._timeout_s = timeout
        self.registry = ModelRegistry(org_id=self.org_id, transport=self.api)
        self.rollouts = RolloutsAPI(self.api)
        self.experiments = ExperimentsAPI(self.api, org_id=self.org_id)
        self.federation = Federation(org_id=self.org_id, transport=self.api)

    def client(self, device_identifier: str | None = None, platform: str | None = None) -> FederatedClient:
        """Return a client that takes part in training as a device.

        Args:
            device_identifier: The device; from ``EDGEML_DEVICE_ID`` if left out.
            platform: Its platform; from ``EDGEML_PLATFORM`` if left out.
        """
        from edgeml_client.resources.federated_client import FederatedClient  # noqa: PLC0415 - only who trains

        return FederatedClient(
            auth_token_provider=self._auth_token_provider,
            org_id=self.org_id,
            api_base=self.api.api_base,
            device_identifier=device_identifier,
            platform=platform,
            timeout=self._timeout_s,
        )


class AsyncEdgeML(AsyncClosing):
    """:class:`EdgeML` for programs with an event loop; the arguments are the same."""

    def __init__(
        self,
        auth_token_provider: Callable[[], str] | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        *,
        timeout: float = 20.0,
    ) -> None:
        config = resolve_config(org_id=org_id, api_base=api_base)
        self.org_id = config.org_id
        self.api = HttpTransport(
            api_base=config.api_base, auth_token_provider=auth_token_provider, timeout=timeout
        )
        self.registry = AsyncModelRegistry(org_id=self.org_id, transport=self.api)
        self.rollouts = AsyncRolloutsAPI(self.api)
        self.experiments = AsyncExperimentsAPI(self.api, self.org_id)
        self.federation = AsyncFederation(org_id=self.org_id, transport=self.api)
