"""Device tokens: enrolling, keeping, refreshing and revoking them."""

from edgeml_client.auth.client import DeviceAuthClient
from edgeml_client.auth.state import DeviceTokenState, StoredToken
from edgeml_client.auth.stores import (
    FallbackTokenStore,
    FileTokenStore,
    KeyringTokenStore,
    MemoryTokenStore,
    TokenStore,
)

__all__ = [
    "DeviceAuthClient",
    "DeviceTokenState",
    "FallbackTokenStore",
    "FileTokenStore",
    "KeyringTokenStore",
    "MemoryTokenStore",
    "StoredToken",
    "TokenStore",
]
