"""The EdgeML control plane: one line on a laptop, PostgreSQL and object storage at scale."""

from edgeml_server.embedded import EmbeddedServer
from edgeml_server.settings import Settings

__all__ = ["EmbeddedServer", "Settings"]
