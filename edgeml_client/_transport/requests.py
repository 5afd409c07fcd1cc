"""A request as a value, and the addresses it may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from edgeml_client._transport.bodies import Body
from edgeml_client.errors import ConfigurationError

__all__ = ["QueryValue", "WireRequest", "origin_of", "parsed_address", "present"]

QueryValue = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WireRequest:
    """One request, as every try sends it.

    Attributes:
        timeout_s: Longest silence of the server, in seconds.
        authorized: Whether it carries the token.
    """

    method: str
    url: httpx.URL
    params: dict[str, str | int | float | bool]
    timeout_s: float
    body: Body | None = None
    authorized: bool = True
    headers: dict[str, str] = field(default_factory=dict[str, str])


def present(params: Mapping[str, QueryValue] | None) -> dict[str, str | int | float | bool]:
    """Return the parameters that are not ``None``."""
    return {name: value for name, value in (params or {}).items() if value is not None}


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return what decides whether a token may go along: scheme, host and port."""
    return url.scheme, url.host, url.port


def parsed_address(address: str) -> httpx.URL:
    """Return the address, parsed.

    Raises:
        ConfigurationError: It is no ``http://`` or ``https://`` address.
    """
    shown = address.partition("?")[0]  # the query of a link may be secret
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as exc:
        raise ConfigurationError(f"{shown!r} is not an address: {exc}") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"{shown!r} is not an http:// or https:// address")
    return url
