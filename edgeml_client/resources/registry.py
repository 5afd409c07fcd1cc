"""Models and their versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from edgeml_client._transport.closing import Closing
from edgeml_client._transport.http import HttpTransport, QueryValue
from edgeml_client._transport.paths import endpoint
from edgeml_client.config import resolve_config
from edgeml_client.errors import ConflictError
from edgeml_client.resources.experiments import ExperimentsAPI
from edgeml_client.resources.model_versions import PAGE, ModelVersions
from edgeml_client.resources.rollouts import RolloutsAPI
from edgeml_client.schemas import (
    Model,
    ModelPage,
    Record,
    Rollout,
)

__all__ = ["ModelRegistry"]


class ModelRegistry(ModelVersions, Closing):
    """The models of an organization.

    Every method raises ``RequestRefusedError`` when the control plane says no (``NotFoundError`` for an
    unknown model or version), ``ConnectionFailedError`` when no answer comes, and ``AuthError`` when there is
    no usable token.

    Args:
        auth_token_provider: Returns the access token for the next request.
        org_id: The organization; from ``EDGEML_ORG_ID`` if left out.
        api_base: Address of the API; from ``EDGEML_API_BASE`` if left out.
        timeout: Longest silence of the control plane, in seconds.
        transport: Shares the connections of another client; then ``auth_token_provider``, ``api_base`` and
            ``timeout`` are its.
    """

    def __init__(
        self,
        auth_token_provider: Callable[[], str] | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        timeout: float = 60.0,
        *,
        transport: HttpTransport | None = None,
    ) -> None:
        config = resolve_config(org_id=org_id, api_base=api_base if transport is None else transport.api_base)
        self.org_id = config.org_id
        super().__init__(
            transport
            or HttpTransport(
                api_base=config.api_base, auth_token_provider=auth_token_provider, timeout=timeout
            )
        )
        self.rollouts = RolloutsAPI(self.api)
        self.experiments = ExperimentsAPI(self.api, org_id=self.org_id)

    def list_models(
        self, framework: str | None = None, use_case: str | None = None, limit: int = PAGE, offset: int = 0
    ) -> ModelPage:
        """Return models, perhaps only those of one framework or use case.

        Args:
            framework: The framework.
            use_case: The use case.
            limit: At most so many.
            offset: After so many others.
        """
        params: dict[str, QueryValue] = {
            "org_id": self.org_id,
            "limit": limit,
            "offset": offset,
            "framework": framework or None,
            "use_case": use_case or None,
        }
        return self.api.call("GET", "/models", ModelPage, params=params)

    def resolve_model_id(self, model: str) -> str:
        """Return the id of the model with this name, or ``model`` itself, which then is taken for an id."""
        found = self._find_by_name(model)
        return model if found is None else found.id

    def ensure_model(  # noqa: PLR0917 - a published signature
        self,
        name: str,
        framework: str,
        use_case: str,
        description: str | None = None,
        model_contract: Mapping[str, JsonValue] | None = None,
        data_contract: Mapping[str, JsonValue] | None = None,
    ) -> Model:
        """Return the model with this name, created if there is none.

        Args:
            name: The name, unique within the organization.
            framework: For instance ``pytorch``.
            use_case: For people.
            description: For people.
            model_contract: What the model takes and returns.
            data_contract: What its data looks like.
        """
        if (found := self._find_by_name(name)) is not None:
            return found
        body: dict[str, JsonValue] = {
            "name": name,
            "description": description or "",
            "framework": framework,
            "use_case": use_case,
            "org_id": self.org_id,
        }
        if model_contract:
            body["model_contract"] = dict(model_contract)
        if data_contract:
            body["data_contract"] = dict(data_contract)
        try:
            return self.api.call("POST", "/models", Model, body=body)
        except ConflictError:
            # Somebody else created it meanwhile.
            if (found := self._find_by_name(name)) is not None:
                return found
            raise

    def get_model(self, model_id: str) -> Model:
        """Return one model."""
        return self.api.call("GET", endpoint("/models/{}", model_id), Model)

    def update_model(self, model_id: str, **fields: JsonValue) -> Model:
        """Change some fields of a model, and return it."""
        return self.api.call("PATCH", endpoint("/models/{}", model_id), Model, body=fields)

    def delete_model(self, model_id: str) -> Record:
        """Remove a model."""
        return self.api.call("DELETE", endpoint("/models/{}", model_id), Record)

    def create_rollout(  # noqa: PLR0917 - a published signature
        self,
        model_id: str,
        version: str,
        rollout_percentage: float = 10,
        target_percentage: float = 100,
        increment_step: float = 10,
        start_immediately: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> Rollout:
        """Bring a version to devices step by step; see :meth:`RolloutsAPI.create`."""
        return self.rollouts.create(
            model_id,
            version,
            rollout_percentage=float(rollout_percentage),
            target_percentage=float(target_percentage),
            increment_step=float(increment_step),
            start_immediately=start_immediately,
        )

    deploy_version = create_rollout

    def optimize(
        self,
        model_id: str,
        target_devices: Sequence[str] | None = None,
        accuracy_threshold: float = 0.95,
        size_budget_mb: float | None = None,
    ) -> Record:
        """Make a model smaller for devices.

        Args:
            model_id: The model.
            target_devices: Kinds of devices, for instance ``pixel_8``.
            accuracy_threshold: How much of the accuracy must be kept, in [0, 1].
            size_budget_mb: Largest size, in megabytes.
        """
        body: dict[str, JsonValue] = {"accuracy_threshold": accuracy_threshold}
        if target_devices is not None:
            body["target_devices"] = list(target_devices)
        if size_budget_mb is not None:
            body["size_budget_mb"] = size_budget_mb
        return self.api.call("POST", endpoint("/models/{}/optimize", model_id), Record, body=body)

    def check_compatibility(self, model_id: str, target_devices: Sequence[str] | None = None) -> Record:
        """Return which kinds of devices can run the model; all kinds if ``target_devices`` is left out."""
        devices = None if target_devices is None else ",".join(target_devices)
        path = endpoint("/models/{}/compatibility", model_id)
        return self.api.call("GET", path, Record, params={"devices": devices})

    def _find_by_name(self, name: str) -> Model | None:
        offset = 0
        while True:
            page = self.list_models(limit=PAGE, offset=offset).models
            found = next((model for model in page if model.name == name), None)
            if found is not None or len(page) < PAGE:
                return found
            offset += len(page)
