"""What a personal copy of a module logs arrives in the same loggers, under ``personal/``."""

from __future__ import annotations

from typing import Any

import lightning as L
from torchmetrics import Metric

from edgeml_lightning.naming import PERSONAL_PREFIX

__all__ = ["redirect_log", "restore_log"]


def redirect_log(copy: L.LightningModule, *, to: L.LightningModule) -> None:
    """Make ``copy.log`` (and so ``copy.log_dict``) log through ``to``, with the prefix.

    ``to`` is the module the Trainer knows, and the hook that runs must be one in which it may log.
    """

    def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's own signature
        if isinstance(value, Metric):
            # Lightning would look for the metric in `to`, which does not hold it.
            kwargs.setdefault("metric_attribute", f"{PERSONAL_PREFIX}{name}")
        to.log(f"{PERSONAL_PREFIX}{name}", value, *args, **kwargs)

    copy.__dict__["log"] = log


def restore_log(copy: L.LightningModule) -> None:
    """Give ``copy`` its own ``log`` back."""
    copy.__dict__.pop("log", None)
