"""Many federated rounds with one Lightning trainer."""

from __future__ import annotations

import logging
import warnings
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, get_args

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from edgeml_client.clock import Clock, SystemClock
from edgeml_client.errors import ConfigurationError, RoundClosedError
from edgeml_lightning._one_line import counted
from edgeml_lightning.callbacks import FederatedCallback
from edgeml_lightning.callbacks.requirements import require_lightning
from edgeml_lightning.distributed.training_processes import start_processes
from edgeml_lightning.exchange import load_global_
from edgeml_lightning.trainer.carried_state import CarriedState, OptimizerPolicy, SchedulePolicy
from edgeml_lightning.trainer.cycling import LocalSteps
from edgeml_lightning.trainer.fresh_callbacks import FreshCallbacks
from edgeml_lightning.trainer.history import History
from edgeml_lightning.trainer.limits import MovedLimits, RoundLimits, check_repeatable
from edgeml_lightning.trainer.next_round import NextRound
from edgeml_lightning.trainer.progress import RoundsProgress
from edgeml_lightning.trainer_facts import callbacks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS

    from edgeml_client import FederatedClient
    from edgeml_lightning.callbacks.round_record import RoundRecord
    from edgeml_lightning.personalization import PersonalStore
    from edgeml_lightning.strategies import FederatedStrategy

__all__ = ["FederatedTrainer"]

_log = logging.getLogger(__name__)


class FederatedTrainer:
    """Trains a module in round after round: global model in, local epochs, update out.

    Every round is one fit of the same Lightning trainer, with a :class:`FederatedCallback` in it. Epochs,
    ``global_step``, the steps of loggers, the names of checkpoints and learning rate schedules go on counting
    over the rounds, and over restarts; callbacks that judge one fit, such as ``EarlyStopping``, start anew in
    each.

    Args:
        client: The device's connection, or a function that makes one when it is first needed, in the one
            process that talks to the control plane. ``None`` takes all from the environment.
        model: The name or id of the global model.
        strategy: What a round does to training; by default what the round's configuration says.
        trainer: The Lightning trainer. Its ``max_epochs`` are the epochs of one round, and must be given
            unless there are ``local_steps``; without a trainer they are 1. Its sanity check measures the
            global model as it was received, on all validation data; with ``num_sanity_val_steps=0`` that is
            left out.
        wait_s: How long to wait for each round, in seconds.
        filters: Filters for every update, after those that the round asks for.
        sample_count: Training samples on this device, the weight of its updates; by default they are counted.
        personal_store: Where personal models are kept; by default beside the client's other state.
        local_steps: Optimizer steps of one round, instead of epochs. Every round goes on in the data where
            the one before it stopped; a round is one epoch of the trainer.
        optimizers: ``reset``: in every round, optimizers start without a memory of shared parameters;
            ``keep``: they remember their momentum and moments from the round before. What they remember of
            personal parameters is always kept.
        schedules: ``continue``: learning rate schedules count over the rounds; ``restart``: each round
            starts them anew, as one that covers a single fit (``OneCycleLR``) needs.
        clock: Another clock than the machine's.

    Attributes:
        callback: What does the work of a round.
        end_reason: Why the last call found no round, in words for the user.

    Raises:
        UnsupportedTrainingError: The trainer cannot be fitted several times; the message says why.
        ConfigurationError: The trainer holds a :class:`FederatedCallback` already.

    ::

        federated = FederatedTrainer(client, model="digits", strategy=Ditto(lambda_ditto=0.1))
        history = federated.fit(module, datamodule=data, rounds=20)
        history.to_frame()["personal/val_acc"].plot()
    """

    def __init__(
        self,
        client: FederatedClient | Callable[[], FederatedClient] | None = None,
        *,
        model: str,
        strategy: FederatedStrategy | None = None,
        trainer: L.Trainer | None = None,
        wait_s: float = 600.0,
        filters: Sequence[Mapping[str, Any]] = (),
        sample_count: int | None = None,
        personal_store: PersonalStore | None = None,
        local_steps: int | None = None,
        optimizers: OptimizerPolicy = "reset",
        schedules: SchedulePolicy = "continue",
        clock: Clock | None = None,
    ) -> None:
        self.model = model
        self.trainer = trainer or L.Trainer(max_epochs=1)
        if local_steps is not None and self.trainer.max_epochs is None:
            self.trainer.fit_loop.max_epochs = 1
        check_repeatable(self.trainer)
        if self.trainer.num_sanity_val_steps > 0:
            self.trainer.num_sanity_val_steps = float("inf")
        self.callback = FederatedCallback(
            client,
            model=model,
            strategy=strategy,
            filters=filters,
            wait_s=wait_s,
            sample_count=sample_count,
            personal_store=personal_store,
            clock=clock,
        )
        self.end_reason: str | None = None
        _check_policies(optimizers, schedules)
        self._limits = RoundLimits.of(self.trainer)
        self._fresh = FreshCallbacks(self.trainer)
        self._next = NextRound(model=model, wait_s=wait_s, clock=clock or SystemClock())
        self._local_steps = None if local_steps is None else LocalSteps(self.trainer, num_steps=local_steps)
        self._carried = CarriedState(
            self.trainer,
            limits=self._limits,
            optimizers=optimizers,
            schedules=schedules,
            local_steps=self._local_steps,
        )
        self.callback.carried = self._carried
        callbacks = callbacks_of(self.trainer)
        _insert_(callbacks, self._carried, self.callback)
        callbacks.insert(0, MovedLimits(self._limits))

    def fit(
        self,
        module: L.LightningModule,
        *,
        rounds: int,
        datamodule: L.LightningDataModule | None = None,
        train_dataloaders: TRAIN_DATALOADERS = None,
        val_dataloaders: EVAL_DATALOADERS = None,
    ) -> History:
        """Take part in the next ``rounds`` rounds that this device is chosen for.

        Stops earlier, and says so in the history's ``end_reason`` and in the log, when the federation is
        over, when no round is offered within ``wait_s``, or when a round left nothing to upload.

        A round that closed before this device's update arrived is not counted; a warning says so.

        There is no ``ckpt_path``: the device keeps what rounds hand on. In a new process, training goes on
        with the round that was cut off, from its beginning, or with the next one.

        Args:
            module: The model; holds the last local model afterwards.
            rounds: At least 1.
            datamodule: The data of this device, or
            train_dataloaders: what Lightning's ``Trainer.fit`` takes, and
            val_dataloaders: likewise.

        Raises:
            ConfigurationError: ``rounds`` is less than 1.
            FederationError: A round could not be completed.
            EdgeMLClientError: The control plane could not be reached, or refused.
        """
        if rounds < 1:
            raise ConfigurationError(f"rounds must be at least 1, not {rounds}")
        records: list[RoundRecord] = []
        with RoundsProgress(self.trainer, num_rounds=rounds) as progress:
            while len(records) < rounds:
                try:
                    record = self.fit_round(
                        module,
                        datamodule=datamodule,
                        train_dataloaders=train_dataloaders,
                        val_dataloaders=val_dataloaders,
                    )
                except RoundClosedError as exc:
                    _log.warning("this device was too late for a round and goes on with the next: %s", exc)
                    continue
                if record is not None:
                    records.append(record)
                    progress.advance(record)
                if self.end_reason is not None:
                    break
        if self.end_reason is not None:
            _log.warning(
                "stopped after %d of %s of model %r: %s",
                len(records),
                counted(rounds, "round"),
                self.model,
                self.end_reason,
            )
        return History(records, end_reason=self.end_reason)

    def fit_round(
        self,
        module: L.LightningModule,
        *,
        datamodule: L.LightningDataModule | None = None,
        train_dataloaders: TRAIN_DATALOADERS = None,
        val_dataloaders: EVAL_DATALOADERS = None,
    ) -> RoundRecord | None:
        """Take part in the next round that this device is chosen for, and return what was done in it.

        Returns ``None``, with the reason in :attr:`end_reason`, when the federation is over or when no round
        is offered within ``wait_s``. The arguments are those of :meth:`fit`.

        Raises:
            ConfigurationError: The module is not ``lightning``'s.
            FederationError: The round could not be completed.
            RoundClosedError: The round closed before the update arrived.
            EdgeMLClientError: The control plane could not be reached, or refused.
        """
        require_lightning(module, kind=L.LightningModule)
        start_processes(self.trainer, module)
        self.end_reason = self.callback.meet(self.trainer).on_first(self._wait)
        if self.end_reason is not None:
            return None
        self._fresh.restore_()
        self._limits.set_alone_(self.trainer)
        self._carried.hold_streams()
        with (
            _checkpoints_go_on(),
            self._cycled(module, datamodule=datamodule, train_dataloaders=train_dataloaders) as data,
        ):
            self.trainer.fit(module, data, val_dataloaders, datamodule=datamodule)
        record = self.callback.last_round
        if record is not None and record.update_status is None:
            self.end_reason = (
                f"round {record.round_number} left nothing to upload after "
                f"{counted(record.num_steps, 'optimizer step')}: check that there is training data, and that "
                "what is sent trains in the epochs of a round"
            )
        return record

    def load_global_(self, module: L.LightningModule, record: RoundRecord) -> None:
        """Load the global model that a round received; what the device keeps for itself stays as it is.

        ::

            federated.load_global_(module, history.best("val_accuracy", mode="max"))

        Raises:
            InvalidModelError: The control plane has another model under that version now.
            ModelMismatchError: The module has other arrays.
        """
        base = self.callback.connection.client().pull_global_model(record.model_id, record.base_version)
        base.require_digest(record.base_digest or None)
        load_global_(module, base.torch_tensors())

    def _cycled(
        self,
        module: L.LightningModule,
        *,
        datamodule: L.LightningDataModule | None,
        train_dataloaders: TRAIN_DATALOADERS,
    ) -> AbstractContextManager[Any]:
        if self._local_steps is None:
            return nullcontext(train_dataloaders)
        return self._local_steps.cycled(module, datamodule=datamodule, train_dataloaders=train_dataloaders)

    def _wait(self) -> str | None:
        return self._next.wait(self.callback.connection.client())


def _check_policies(optimizers: str, schedules: str) -> None:
    if optimizers not in get_args(OptimizerPolicy):
        raise ConfigurationError(f'optimizers must be "reset" or "keep", not {optimizers!r}')
    if schedules not in get_args(SchedulePolicy):
        raise ConfigurationError(f'schedules must be "continue" or "restart", not {schedules!r}')


def _insert_(callbacks: list[Callback], *new: Callback) -> None:
    """Put callbacks before the checkpoints, which Lightning keeps last."""
    if any(isinstance(callback, FederatedCallback) for callback in callbacks):
        raise ConfigurationError(
            "the trainer has a FederatedCallback already: leave it out, FederatedTrainer brings its own"
        )
    first = next(
        (i for i, callback in enumerate(callbacks) if isinstance(callback, Checkpoint)), len(callbacks)
    )
    callbacks[first:first] = new


@contextmanager
def _checkpoints_go_on() -> Generator[None]:
    """A later round finds the checkpoints of the earlier ones; that is meant, so nobody is warned."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        yield
