"""Looks at a LightningModule before it is federated: what travels, what is exact, what to change.

``examine`` is imported when it is first used, so that ``edgeml --help`` needs neither torch nor lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeml_lightning._extra import lightning_extra
from edgeml_lightning.doctor.findings import Finding, Report, Verdict

if TYPE_CHECKING:
    from edgeml_lightning.doctor.examination import examine

__all__ = ["Finding", "Report", "Verdict", "examine"]


def __getattr__(name: str) -> object:
    """Import ``examine``.

    Raises:
        AttributeError: There is no such name.
        MissingExtraError: torch, lightning or torchmetrics is not installed.
    """
    if name != "examine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with lightning_extra("edgeml_lightning.doctor.examine"):
        from edgeml_lightning.doctor.examination import examine  # noqa: PLC0415 - as said above
    return examine
