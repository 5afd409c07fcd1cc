"""The client of a device that enrolled earlier, configured by the environment alone."""

from __future__ import annotations

from pathlib import Path

from edgeml_client.auth import DeviceAuthClient
from edgeml_client.config import resolve_config
from edgeml_client.errors import ConfigurationError
from edgeml_client.resources.federated_client import FederatedClient

__all__ = ["connect"]


def connect(*, state_dir: Path | str | None = None) -> FederatedClient:
    """Return the client of the device that the environment names, with the tokens it enrolled for.

    ``EDGEML_API_BASE``, ``EDGEML_ORG_ID`` and ``EDGEML_DEVICE_ID`` say which device it is, and
    ``EDGEML_TOKEN_STORAGE`` where its tokens are. No secret is an argument, so none can end in a config file.

    Args:
        state_dir: As for :class:`~edgeml_client.FederatedClient`.

    Raises:
        ConfigurationError: ``EDGEML_DEVICE_ID`` is not set, or a variable cannot work.

    Example::

        callback = FederatedCallback(connect, model="digits")  # what FederatedCallback(model=...) does, too
    """
    config = resolve_config()
    if config.device_identifier is None:
        raise ConfigurationError(
            "EDGEML_DEVICE_ID is not set, so it is not known which device this is: set it to the identifier "
            "that the device enrolled with, or pass a FederatedClient"
        )
    auth = DeviceAuthClient(
        base_url=config.api_base,
        org_id=config.org_id,
        device_identifier=config.device_identifier,
    )
    return FederatedClient(auth_token_provider=auth.get_access_token_sync, state_dir=state_dir)
