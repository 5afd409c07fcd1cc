"""A client SDK for EdgeML control planes; works without torch and without Lightning."""

from edgeml_client._version import __version__

__all__ = ["__version__"]
