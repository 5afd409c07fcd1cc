"""What a device may say about itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from edgeml_server.errors import InvalidContentError

if TYPE_CHECKING:
    from edgeml_client.schemas import DeviceRegistration

__all__ = ["MAX_FACTS_BYTES", "check_facts"]

_KIB: Final = 1024

MAX_FACTS_BYTES: Final = {"metadata": 16 * _KIB, "capabilities": 16 * _KIB, "feature_schema": 64 * _KIB}
"""How long each may be as JSON: lists of devices hold them all, a thousand devices at a time."""


def check_facts(registration: DeviceRegistration) -> None:
    """Check that what a device says about itself is not too long to be kept.

    Raises:
        InvalidContentError: A field is longer than :data:`MAX_FACTS_BYTES`.
    """
    facts = registration.model_dump(mode="json", include=set(MAX_FACTS_BYTES))
    for name, limit in MAX_FACTS_BYTES.items():
        num_bytes = len(json.dumps(facts[name], ensure_ascii=False).encode())
        if num_bytes > limit:
            raise InvalidContentError(
                f"the {name} of a device may have {limit} bytes as JSON, this has {num_bytes}; say less"
            )
