"""The models of an organization, for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydantic import JsonValue

from edgeml_client._transport.closing import AsyncClosing
from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.in_thread import in_thread
from edgeml_client.resources.experiments import AsyncExperimentsAPI
from edgeml_client.resources.registry import ModelRegistry
from edgeml_client.resources.rollouts import AsyncRolloutsAPI
from edgeml_client.schemas import Model

__all__ = ["AsyncModelRegistry"]


class AsyncModelRegistry(AsyncClosing):
    """:class:`ModelRegistry` for programs with an event loop; the arguments are the same."""

    def __init__(
        self,
        auth_token_provider: Callable[[], str] | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        timeout: float = 60.0,
        *,
        transport: HttpTransport | None = None,
    ) -> None:
        self._sync = ModelRegistry(auth_token_provider, org_id, api_base, timeout, transport=transport)
        self.api = self._sync.api
        self.org_id = self._sync.org_id
        self.rollouts = AsyncRolloutsAPI(self._sync.api)
        self.experiments = AsyncExperimentsAPI(self._sync.api, self.org_id)

    async def update_model(self, model_id: str, **fields: JsonValue) -> Model:
        """Change some fields of a model, and return it."""
        return await asyncio.to_thread(self._sync.update_model, model_id, **fields)

    list_models = in_thread(ModelRegistry.list_models)
    resolve_model_id = in_thread(ModelRegistry.resolve_model_id)
    ensure_model = in_thread(ModelRegistry.ensure_model)
    get_model = in_thread(ModelRegistry.get_model)
    delete_model = in_thread(ModelRegistry.delete_model)
    list_versions = in_thread(ModelRegistry.list_versions)
    get_version = in_thread(ModelRegistry.get_version)
    get_latest_version_info = in_thread(ModelRegistry.get_latest_version_info)
    get_latest_version = in_thread(ModelRegistry.get_latest_version)
    create_version = in_thread(ModelRegistry.create_version)
    upload_version = in_thread(ModelRegistry.upload_version)
    upload_version_from_path = in_thread(ModelRegistry.upload_version_from_path)
    publish_version = in_thread(ModelRegistry.publish_version)
    deprecate_version = in_thread(ModelRegistry.deprecate_version)
    update_version_metrics = in_thread(ModelRegistry.update_version_metrics)
    delete_version = in_thread(ModelRegistry.delete_version)
    get_download_url = in_thread(ModelRegistry.get_download_url)
    download = in_thread(ModelRegistry.download)
    download_version = in_thread(ModelRegistry.download_version)
    download_optimized = in_thread(ModelRegistry.download_optimized)
    create_rollout = in_thread(ModelRegistry.create_rollout)
    deploy_version = in_thread(ModelRegistry.deploy_version)
    optimize = in_thread(ModelRegistry.optimize)
    get_device_config = in_thread(ModelRegistry.get_device_config)
    check_compatibility = in_thread(ModelRegistry.check_compatibility)
