"""NVFlare: its FedProx loss, and the handler that its Lightning integration calls."""

from __future__ import annotations

import copy
import types

from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.app_constant import AlgorithmConstants
from nvflare.app_opt.lightning.fedprox import _FedProxHandler
from nvflare.app_opt.pt.fedproxloss import PTFedProxLoss

from benchmarks.cases.plain import Cases
from benchmarks.cases.steps_plain import MU, Training, run_of, training

__all__ = ["cases", "started_handler"]


def started_handler(subject: Training) -> _FedProxHandler:
    """Return its handler at the start of a round, as a trainer of one optimizer in float32 starts it."""
    trainer = types.SimpleNamespace(
        precision="32-true", scaler=None, precision_plugin=None, optimizers=[subject.optimizer]
    )
    handler = _FedProxHandler()
    received = FLModel(params={}, meta={AlgorithmConstants.FEDPROX_MU: MU})
    handler.start_round(trainer, subject.network, received)
    return handler


def cases(network: str, batch_size: int, optimizer: str) -> Cases:
    """Return a step with its loss, and one with its Lightning handler around the optimizer's step."""
    plain, with_loss, with_handler = (training(network, batch_size, optimizer) for _ in range(3))
    received = copy.deepcopy(with_loss.network).requires_grad_(requires_grad=False)
    penalty = PTFedProxLoss(mu=MU)
    handler = started_handler(with_handler)

    def handled() -> None:
        with_handler.step_with(before_optimizer=lambda: handler.before_optimizer_step(with_handler.optimizer))
        handler.after_train_batch(with_handler.network)

    return Cases(
        {
            "NVFlare, PTFedProxLoss": run_of(
                lambda: with_loss.step_with(term=lambda: penalty(with_loss.network, received))
            ),
            "NVFlare, Lightning handler": run_of(handled),
        },
        limit=run_of(plain.step),
        num_parameters=sum(anchor.numel() for anchor in plain.anchors),
        is_cold=False,
    )
