"""What a finished round tells the user: a record, and figures in the Trainer's loggers."""

from __future__ import annotations

import lightning as L
import torch

from edgeml_client.schemas import UpdateReceipt
from edgeml_lightning.callbacks.measurements import FEDERATED_PREFIX, local_figures, personal_figures
from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.naming import PERSONAL_PREFIX, with_prefix

__all__ = ["record_of", "report"]


def record_of(
    running: RunningRound,
    trainer: L.Trainer,
    *,
    receipt: UpdateReceipt | None,
    num_steps: int,
    ended_s: float,
) -> RoundRecord:
    """Return the record of a round that ended at ``ended_s``, on the clock that began it.

    For the process that talks to the control plane.
    """
    assignment, metrics = running.assignment, trainer.callback_metrics
    local = local_figures(metrics)
    personal = personal_figures(metrics)
    if not personal and running.split.kept:
        personal = local  # the module itself is the personal model: shared body, own head
    return RoundRecord(
        round_id=assignment.round_id,
        model_id=assignment.model_id,
        base_version=running.base.version,
        base_digest=running.base.digest,
        strategy=running.strategy.label,
        round_number=assignment.round_number,
        num_rounds=assignment.num_rounds,
        sample_count=running.sample_count,
        num_steps=num_steps,
        num_bytes_received=running.joined.num_bytes_received,
        num_bytes_sent=running.joined.num_bytes_sent,
        duration_s=ended_s - running.started_s,
        update_status=receipt.status if receipt is not None else None,
        received_metrics=running.received_metrics,
        local_metrics=local,
        personal_metrics=personal,
    )


def report(trainer: L.Trainer, record: RoundRecord) -> None:
    """Put the round's figures into the loggers and into ``trainer.callback_metrics``.

    Lightning allows no ``self.log`` when a fit ends, so the loggers are called directly, on rank 0.
    """
    figures = {
        f"{FEDERATED_PREFIX}sample_count": float(record.sample_count),
        f"{FEDERATED_PREFIX}num_steps": float(record.num_steps),
        f"{FEDERATED_PREFIX}num_bytes_received": float(record.num_bytes_received),
        f"{FEDERATED_PREFIX}num_bytes_sent": float(record.num_bytes_sent),
        f"{FEDERATED_PREFIX}duration_s": record.duration_s,
        **with_prefix(record.received_metrics, f"{FEDERATED_PREFIX}received/"),
        **with_prefix(record.personal_metrics, PERSONAL_PREFIX),
    }
    if record.round_number is not None:
        figures[f"{FEDERATED_PREFIX}round"] = float(record.round_number)
    trainer.callback_metrics.update({key: torch.tensor(value) for key, value in figures.items()})
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
