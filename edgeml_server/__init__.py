"""The EdgeML control plane: one line on a laptop, PostgreSQL and object storage at scale."""

from edgeml_client.errors import MissingExtraError

try:
    from edgeml_server.embedded import EmbeddedServer
    from edgeml_server.settings import Settings
except ModuleNotFoundError as exc:
    if (exc.name or "").startswith("edgeml_"):
        raise
    raise MissingExtraError("edgeml_server", extra="server") from exc

__all__ = ["EmbeddedServer", "Settings"]
