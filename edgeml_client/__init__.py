"""A client SDK for EdgeML control planes; works without torch and without Lightning.

Everything listed in ``__all__`` is imported from the module that defines it at its first use (PEP 562), so
that importing the package costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

from edgeml_client._version import __version__

if TYPE_CHECKING:
    from edgeml_client.auth import DeviceAuthClient, DeviceTokenState
    from edgeml_client.clock import Clock, SystemClock
    from edgeml_client.edge import AsyncEdgeML, EdgeML
    from edgeml_client.errors import EdgeMLClientError
    from edgeml_client.filters import DataKind, DeltaFilter, FilterRegistry, FilterResult, apply_filters
    from edgeml_client.resources.analytics import AsyncFederatedAnalyticsAPI, FederatedAnalyticsAPI
    from edgeml_client.resources.async_federated_client import AsyncFederatedClient
    from edgeml_client.resources.async_registry import AsyncModelRegistry
    from edgeml_client.resources.device_round import DeviceRound
    from edgeml_client.resources.enrolled_client import connect
    from edgeml_client.resources.experiments import AsyncExperimentsAPI, ExperimentsAPI
    from edgeml_client.resources.federated_client import FederatedClient
    from edgeml_client.resources.federation import AsyncFederation, Federation
    from edgeml_client.resources.registry import ModelRegistry
    from edgeml_client.resources.rollouts import AsyncRolloutsAPI, RolloutsAPI
    from edgeml_client.rounds import LocalTrainFn, ProximalTerm
    from edgeml_client.updates import GlobalModel, compute_state_dict_delta

_HOMES = {
    "AsyncEdgeML": "edgeml_client.edge",
    "AsyncExperimentsAPI": "edgeml_client.resources.experiments",
    "AsyncFederatedAnalyticsAPI": "edgeml_client.resources.analytics",
    "AsyncFederatedClient": "edgeml_client.resources.async_federated_client",
    "AsyncFederation": "edgeml_client.resources.federation",
    "AsyncModelRegistry": "edgeml_client.resources.async_registry",
    "AsyncRolloutsAPI": "edgeml_client.resources.rollouts",
    "Clock": "edgeml_client.clock",
    "DataKind": "edgeml_client.filters",
    "DeltaFilter": "edgeml_client.filters",
    "DeviceAuthClient": "edgeml_client.auth",
    "DeviceRound": "edgeml_client.resources.device_round",
    "DeviceTokenState": "edgeml_client.auth",
    "EdgeML": "edgeml_client.edge",
    "EdgeMLClientError": "edgeml_client.errors",
    "ExperimentsAPI": "edgeml_client.resources.experiments",
    "FederatedAnalyticsAPI": "edgeml_client.resources.analytics",
    "FederatedClient": "edgeml_client.resources.federated_client",
    "Federation": "edgeml_client.resources.federation",
    "FilterRegistry": "edgeml_client.filters",
    "FilterResult": "edgeml_client.filters",
    "GlobalModel": "edgeml_client.updates",
    "LocalTrainFn": "edgeml_client.rounds",
    "ModelRegistry": "edgeml_client.resources.registry",
    "ProximalTerm": "edgeml_client.rounds",
    "RolloutsAPI": "edgeml_client.resources.rollouts",
    "SystemClock": "edgeml_client.clock",
    "apply_filters": "edgeml_client.filters",
    "compute_state_dict_delta": "edgeml_client.updates",
    "connect": "edgeml_client.resources.enrolled_client",
}

__all__ = [
    "AsyncEdgeML",
    "AsyncExperimentsAPI",
    "AsyncFederatedAnalyticsAPI",
    "AsyncFederatedClient",
    "AsyncFederation",
    "AsyncModelRegistry",
    "AsyncRolloutsAPI",
    "Clock",
    "DataKind",
    "DeltaFilter",
    "DeviceAuthClient",
    "DeviceRound",
    "DeviceTokenState",
    "EdgeML",
    "EdgeMLClientError",
    "ExperimentsAPI",
    "FederatedAnalyticsAPI",
    "FederatedClient",
    "Federation",
    "FilterRegistry",
    "FilterResult",
    "GlobalModel",
    "LocalTrainFn",
    "ModelRegistry",
    "ProximalTerm",
    "RolloutsAPI",
    "SystemClock",
    "__version__",
    "apply_filters",
    "compute_state_dict_delta",
    "connect",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
