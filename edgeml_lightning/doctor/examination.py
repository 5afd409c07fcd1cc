"""All checks, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.callbacks.requirements import require_lightning
from edgeml_lightning.doctor.findings import Finding, Report, Verdict
from edgeml_lightning.doctor.inventory import check_arrays
from edgeml_lightning.doctor.training import check_copies, check_training, check_update_size
from edgeml_lightning.doctor.trial import TrialData

__all__ = ["examine"]


def examine(
    module: L.LightningModule, data: TrialData | None = None, *, head_layers: Sequence[str] = ()
) -> Report:
    """Return what is to be known before ``module`` is federated; nothing is sent anywhere.

    One batch is trained on copies of the module, on the CPU; the module itself stays as it is, unless it
    builds its layers in ``configure_model``, which is then called.

    Args:
        module: The model.
        data: Where the batch comes from; by default the module's own ``train_dataloader``.
        head_layers: What FedPer would keep on the device.

    Raises:
        ConfigurationError: ``module`` is no LightningModule of ``lightning``, or ``data`` no data.

    Example:
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> report = examine(BoringModel())
        >>> report.worst.value, report["parameters"].found
        ('pass', '66 to train in 2 arrays')
    """
    require_lightning(module, kind=L.LightningModule)
    if not isinstance(data, L.LightningDataModule | DataLoader | None):  # pyright: ignore[reportUnnecessaryIsInstance] - a command line is not type-checked
        raise ConfigurationError(
            f"data must be a LightningDataModule or a DataLoader, not {type(data).__name__}"
        )
    if is_overridden("configure_model", module):
        module.configure_model()
    findings = [*check_arrays(module, head_layers=head_layers), check_copies(module)]
    failed = {finding.check for finding in findings if finding.verdict is Verdict.FAIL}
    if "parameters" not in failed:
        findings.append(check_update_size(module))
        if "copies" not in failed:
            findings += check_training(module, data)
    return Report(type(module).__name__, tuple(_in_order(findings)))


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return the gravest first, and otherwise in the order of the checks."""
    order = list(Verdict)
    return sorted(findings, key=lambda finding: -order.index(finding.verdict))
