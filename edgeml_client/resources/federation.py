"""Organizations that train together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Annotated, Final

from pydantic import JsonValue, TypeAdapter

from edgeml_client._transport.closing import AsyncClosing, Closing
from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.in_thread import in_thread
from edgeml_client._transport.lists import bare
from edgeml_client._transport.paths import endpoint
from edgeml_client.config import resolve_config
from edgeml_client.errors import ConfigurationError, ConflictError
from edgeml_client.resources.analytics import FederatedAnalyticsAPI
from edgeml_client.resources.experiments import ExperimentsAPI
from edgeml_client.resources.registry import ModelRegistry
from edgeml_client.resources.rollouts import RolloutsAPI
from edgeml_client.schemas import AggregationResult, FederationRecord, Invitation, Rollout

__all__ = ["AsyncFederation", "Federation"]

_FEDERATIONS: Final[TypeAdapter[list[FederationRecord]]] = TypeAdapter(
    Annotated[list[FederationRecord], bare("federations")]
)
_INVITATIONS: Final[TypeAdapter[list[Invitation]]] = TypeAdapter(
    Annotated[list[Invitation], bare("invitations")]
)


class Federation(Closing):
    """One federation, found by its name, and created if there is none.

    Making this object sends nothing: the federation is looked up, or created, by the first call that needs
    its id. So a program can be set up without a network, and a typo in ``api_base`` shows where it is used.

    Every method raises ``RequestRefusedError`` when the control plane says no, ``ConnectionFailedError`` when
    no answer comes, and ``AuthError`` when there is no usable token.

    Args:
        auth_token_provider: Returns the access token for the next request.
        name: The name, ``default`` if left out.
        org_id: The organization that looks for it; from ``EDGEML_ORG_ID`` if left out.
        api_base: Address of the API; from ``EDGEML_API_BASE`` if left out.
        transport: Shares the connections of another client.
    """

    def __init__(
        self,
        auth_token_provider: Callable[[], str] | None = None,
        name: str | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        *,
        transport: HttpTransport | None = None,
    ) -> None:
        config = resolve_config(org_id=org_id, api_base=api_base if transport is None else transport.api_base)
        self.org_id = config.org_id
        self.name = name or "default"
        self.api = transport or HttpTransport(
            api_base=config.api_base, auth_token_provider=auth_token_provider
        )
        self.rollouts = RolloutsAPI(self.api)
        self.experiments = ExperimentsAPI(self.api, org_id=self.org_id)
        self.last_model_id: str | None = None
        self.last_version: str | None = None
        self._registry = ModelRegistry(org_id=self.org_id, transport=self.api)
        self._lock = threading.Lock()
        self._federation_id: str | None = None

    @property
    def federation_id(self) -> str:
        """The federation's id, looked up at the first use; the federation is created if there is none."""
        return self.resolve()

    @cached_property
    def analytics(self) -> FederatedAnalyticsAPI:
        """The federation's statistics; looks the federation up."""
        return FederatedAnalyticsAPI(self.api, self.resolve())

    def resolve(self) -> str:
        """Return the federation's id; looked up once, and the federation is created if there is none."""
        with self._lock:
            if self._federation_id is None:
                self._federation_id = self._found() or self._created()
            return self._federation_id

    def invite(self, org_ids: Iterable[str]) -> list[Invitation]:
        """Ask organizations to join."""
        path = endpoint("/federations/{}/invite", self.resolve())
        return self.api.call("POST", path, _INVITATIONS, body={"org_ids": list(org_ids)})

    def train(  # noqa: PLR0917 - a published signature
        self,
        model: str,
        algorithm: str = "fedavg",
        rounds: int = 1,
        min_updates: int = 1,
        base_version: str | None = None,
        new_version: str | None = None,
        publish: bool = True,  # noqa: FBT001, FBT002 - as above
        strategy: str = "metrics",
        update_format: str = "delta",
        architecture: str | None = None,
        input_dim: int = 16,
        hidden_dim: int = 8,
        output_dim: int = 4,
    ) -> AggregationResult:
        """Aggregate the updates that devices sent outside of rounds, and return the last result.

        Args:
            model: Name or id of the model.
            algorithm: ``fedavg``.
            rounds: How many aggregations follow each other, each on the version the one before made.
            min_updates: Updates each of them needs.
            base_version: The version to begin with; the latest if left out.
            new_version: The name of the first version that comes of it; chosen by the server if left out.
            publish: Whether new versions are published.
            strategy: How the server combines updates.
            update_format: ``delta`` or ``weights``.
            architecture: The architecture, for servers that must build the model.
            input_dim: Its input width, likewise.
            hidden_dim: Its hidden width, likewise.
            output_dim: Its output width, likewise.

        Raises:
            ConfigurationError: The algorithm is unknown, or ``rounds`` is less than 1.
        """
        if algorithm.lower() != "fedavg":
            raise ConfigurationError(f"algorithm must be 'fedavg', not {algorithm!r}")
        if rounds < 1:
            raise ConfigurationError(f"rounds must be at least 1, not {rounds}")
        self.last_model_id = self._registry.resolve_model_id(model)
        result = AggregationResult(new_version=base_version)
        for number in range(rounds):
            body: dict[str, JsonValue] = {
                "model_id": self.last_model_id,
                "base_version": result.new_version,
                "new_version": new_version if number == 0 else None,
                "min_updates": min_updates,
                "publish": publish,
                "strategy": strategy,
                "update_format": update_format,
                "architecture": architecture,
                "input_dim": input_dim,
                "hidden_dim": hidden_dim,
                "output_dim": output_dim,
            }
            result = self.api.call("POST", "/training/aggregate", AggregationResult, body=body)
            self.last_version = result.new_version
        return result

    def deploy(  # noqa: PLR0917 - a published signature
        self,
        model_id: str | None = None,
        version: str | None = None,
        rollout_percentage: float = 10,
        target_percentage: float = 100,
        increment_step: float = 10,
        start_immediately: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> Rollout:
        """Bring a version to devices step by step.

        Args:
            model_id: The model; the one last trained if left out.
            version: The version; the one last trained, else the latest, if left out.
            rollout_percentage: Devices that get it first, in percent.
            target_percentage: Devices that have it at the end, in percent.
            increment_step: What one advance adds, in percent points.
            start_immediately: Start at once.

        Raises:
            ConfigurationError: There is no model, neither given nor trained before.
        """
        model_id = model_id or self.last_model_id
        if model_id is None:
            raise ConfigurationError("deploy() needs model_id, because train() was not called before")
        version = version or self.last_version or self._registry.get_latest_version(model_id)
        return self._registry.create_rollout(
            model_id, version, rollout_percentage, target_percentage, increment_step, start_immediately
        )

    def _found(self) -> str | None:
        params = {"org_id": self.org_id, "name": self.name}
        found = self.api.call("GET", "/federations", _FEDERATIONS, params=params)
        return found[0].id if found else None

    def _created(self) -> str:
        body: dict[str, JsonValue] = {"org_id": self.org_id, "name": self.name}
        try:
            return self.api.call("POST", "/federations", FederationRecord, body=body).id
        except ConflictError:
            if (found := self._found()) is not None:  # somebody else created it meanwhile
                return found
            raise


class AsyncFederation(AsyncClosing):
    """:class:`Federation` for programs with an event loop; the arguments are the same.

    Its statistics are ``AsyncFederatedAnalyticsAPI(federation.api, await federation.resolve())``.
    """

    def __init__(
        self,
        auth_token_provider: Callable[[], str] | None = None,
        name: str | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        *,
        transport: HttpTransport | None = None,
    ) -> None:
        self._sync = Federation(auth_token_provider, name, org_id, api_base, transport=transport)
        self.api = self._sync.api
        self.org_id = self._sync.org_id
        self.name = self._sync.name

    resolve = in_thread(Federation.resolve)
    invite = in_thread(Federation.invite)
    train = in_thread(Federation.train)
    deploy = in_thread(Federation.deploy)
