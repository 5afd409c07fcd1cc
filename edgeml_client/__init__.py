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
    from edgeml_client.errors import EdgeMLClientError

_HOMES = {
    "Clock": "edgeml_client.clock",
    "DeviceAuthClient": "edgeml_client.auth",
    "DeviceTokenState": "edgeml_client.auth",
    "EdgeMLClientError": "edgeml_client.errors",
    "SystemClock": "edgeml_client.clock",
}

__all__ = [
    "Clock",
    "DeviceAuthClient",
    "DeviceTokenState",
    "EdgeMLClientError",
    "SystemClock",
    "__version__",
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
