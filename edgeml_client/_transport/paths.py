"""Addresses built from names that users chose."""

from __future__ import annotations

from urllib.parse import quote

from edgeml_client.errors import ConfigurationError

__all__ = ["endpoint"]


def endpoint(template: str, *segments: object) -> str:
    """Return ``template`` with each ``{}`` replaced by one percent-encoded path segment.

    Args:
        template: For instance ``/models/{}/versions/{}``.
        segments: One value for each placeholder; it can never add or leave a path segment.

    Raises:
        ConfigurationError: A segment is empty, or ``.`` or ``..``, which no name can be.

    Example:
        >>> endpoint("/models/{}/versions/{}", "m-1", "1.0/rc")
        '/models/m-1/versions/1.0%2Frc'
    """
    return template.format(*(_segment(str(segment)) for segment in segments))


def _segment(value: str) -> str:
    if value in {"", ".", ".."}:
        raise ConfigurationError(
            f"{value!r} cannot be part of an address: pass the id or name the server gave"
        )
    return quote(value, safe="")
