"""Where a setting comes from: an argument, else the environment, else a default.

========================  ==========================================  ===================================
variable                  meaning                                     default
========================  ==========================================  ===================================
``EDGEML_API_BASE``       address of the API                          ``https://api.edgeml.io/api/v1``
``EDGEML_ORG_ID``         organization                                ``default``
``EDGEML_DEVICE_ID``      identifier of this device                   chosen by the client
``EDGEML_PLATFORM``       platform, as reported at registration       ``python``
``EDGEML_TOKEN_STORAGE``  ``keyring``, ``memory``, ``file``, ``auto`` ``auto``
``EDGEML_LOG_LEVEL``      ``DEBUG`` ... ``CRITICAL``                  what the application set up
========================  ==========================================  ===================================

A variable that is set to nothing counts as not set.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from edgeml_client.errors import ConfigurationError

__all__ = [
    "DEFAULT_API_BASE",
    "ClientConfig",
    "InsecureAddressWarning",
    "TokenStorage",
    "check_address",
    "check_name",
    "resolve_config",
    "resolve_token_storage",
]

DEFAULT_API_BASE: Final = "https://api.edgeml.io/api/v1"
DEFAULT_ORG_ID: Final = "default"
DEFAULT_PLATFORM: Final = "python"

LONGEST_NAME: Final = 255
_LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOGGERS: Final = ("edgeml_client", "edgeml_lightning")


class InsecureAddressWarning(UserWarning):
    """Tokens and updates would travel in clear text over a network."""


class TokenStorage(StrEnum):
    """Where a device keeps its tokens."""

    KEYRING = "keyring"
    MEMORY = "memory"
    FILE = "file"
    AUTO = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientConfig:
    """The settings a client works with, all checked.

    Attributes:
        api_base: Address of the API, without a slash at its end.
        org_id: The organization.
        device_identifier: This device's identifier; ``None`` leaves the choice to the client.
        platform: Platform as reported at registration.
    """

    api_base: str = DEFAULT_API_BASE
    org_id: str = DEFAULT_ORG_ID
    device_identifier: str | None = None
    platform: str = DEFAULT_PLATFORM


def resolve_config(
    *,
    api_base: str | None = None,
    org_id: str | None = None,
    device_identifier: str | None = None,
    platform: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> ClientConfig:
    """Return the settings, each from its argument, else from the environment, else its default.

    ``EDGEML_LOG_LEVEL`` takes effect on the loggers of the client packages, if it is set.

    Args:
        api_base: Address of the API.
        org_id: The organization.
        device_identifier: This device's identifier.
        platform: Platform as reported at registration.
        environ: Instead of the environment of the process.

    Raises:
        ConfigurationError: A value cannot work; the message names the argument or the variable.
    """
    found = os.environ if environ is None else environ

    def pick(argument: str, given: str | None, variable: str) -> tuple[str, str | None]:
        return (argument, given) if given is not None else (variable, found.get(variable, "").strip() or None)

    base_name, base = pick("api_base", api_base, "EDGEML_API_BASE")
    org_name, org = pick("org_id", org_id, "EDGEML_ORG_ID")
    device_name, device = pick("device_identifier", device_identifier, "EDGEML_DEVICE_ID")
    platform_name, system = pick("platform", platform, "EDGEML_PLATFORM")
    if level := found.get("EDGEML_LOG_LEVEL", "").strip():
        _set_log_level(level)
    return ClientConfig(
        api_base=check_address(DEFAULT_API_BASE if base is None else base, name=base_name),
        org_id=check_name(DEFAULT_ORG_ID if org is None else org, name=org_name),
        device_identifier=None if device is None else check_name(device, name=device_name),
        platform=check_name(DEFAULT_PLATFORM if system is None else system, name=platform_name),
    )


def resolve_token_storage(value: str | None, *, environ: Mapping[str, str] | None = None) -> TokenStorage:
    """Return where a device keeps its tokens: the argument, else ``EDGEML_TOKEN_STORAGE``, else ``auto``.

    Args:
        value: The argument; ``None`` if it was left out.
        environ: Instead of the environment of the process.

    Raises:
        ConfigurationError: There is no such place.
    """
    name = "token_storage"
    if value is None:
        name = "EDGEML_TOKEN_STORAGE"
        value = (os.environ if environ is None else environ).get(name, "").strip() or TokenStorage.AUTO
    try:
        return TokenStorage(value.lower())
    except ValueError:
        raise ConfigurationError(f"{name} must be one of {', '.join(TokenStorage)}, not {value!r}") from None


def check_address(value: str, *, name: str) -> str:
    """Return ``value`` without a slash at its end; warn if tokens would travel in clear text.

    Args:
        value: An ``http://`` or ``https://`` address.
        name: The argument or variable it comes from, for the message.

    Raises:
        ConfigurationError: It is no such address, or it holds a user name, a password or a query.
    """
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise ConfigurationError(f"{name} is not an address: {exc}") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must be a plain address, without user name, password or query")
    if not usable or any(character.isspace() for character in value):
        raise ConfigurationError(f"{name} must be an http:// or https:// address, not {value!r}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        warnings.warn(
            f"{name} is {value}: without https, tokens and updates travel in clear text; use https://",
            InsecureAddressWarning,
            stacklevel=2,
        )
    return value.rstrip("/")


def check_name(value: str, *, name: str) -> str:
    """Return ``value``.

    Args:
        value: An organization, a device identifier or a platform.
        name: The argument or variable it comes from, for the message.

    Raises:
        ConfigurationError: It is empty, longer than 255 characters, or not printable.
    """
    if not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        raise ConfigurationError(f"{name} must be 1 to {LONGEST_NAME} printable characters, not {value!r}")
    return value


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _set_log_level(value: str) -> None:
    """Apply ``EDGEML_LOG_LEVEL``; where the application has no logging set up, show it on stderr."""
    level = value.upper()
    if level not in _LOG_LEVELS:
        raise ConfigurationError(f"EDGEML_LOG_LEVEL must be one of {', '.join(_LOG_LEVELS)}, not {value!r}")
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            logger.addHandler(handler)
