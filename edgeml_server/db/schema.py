"""Every table there is: importing this module fills ``Base.metadata``."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData

from edgeml_server.auth import tables as _auth
from edgeml_server.db import answers as _answers
from edgeml_server.db.tables import Base
from edgeml_server.devices import tables as _devices
from edgeml_server.federations import tables as _federations
from edgeml_server.inference import tables as _inference
from edgeml_server.personalization import tables as _personalization
from edgeml_server.registry import tables as _registry
from edgeml_server.rounds import tables as _rounds

__all__ = ["METADATA"]

_MODULES: Final = (_answers, _auth, _devices, _registry, _rounds, _personalization, _federations, _inference)

METADATA: Final[MetaData] = Base.metadata
