"""Looks at a LightningModule before it is federated: what travels, what is exact, what to change."""

from edgeml_lightning.doctor.examination import examine
from edgeml_lightning.doctor.findings import Finding, Report, Verdict

__all__ = ["Finding", "Report", "Verdict", "examine"]
