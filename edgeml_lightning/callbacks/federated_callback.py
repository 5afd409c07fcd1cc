"""The callback that makes a Lightning fit one federated round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from edgeml_client.clock import Clock, SystemClock
from edgeml_client.errors import ConfigurationError, NonFiniteError
from edgeml_client.filters import resolve_filters
from edgeml_client.rounds.waiting import check_wait
from edgeml_lightning.callbacks.before_training import BeforeTraining
from edgeml_lightning.callbacks.connection import Connection
from edgeml_lightning.callbacks.first_process import FirstProcess
from edgeml_lightning.callbacks.kept_marks import KeptMarks
from edgeml_lightning.callbacks.measurements import local_figures
from edgeml_lightning.callbacks.personal_side import PersonalSide
from edgeml_lightning.callbacks.receiving import receive
from edgeml_lightning.callbacks.reporting import record_of, report
from edgeml_lightning.callbacks.requirements import (
    check_alone,
    check_companions,
    check_epochs,
    check_gradients,
    check_optimizers,
    check_trainer,
    require_lightning,
)
from edgeml_lightning.callbacks.round_checkpoint import RoundCheckpoint, usable
from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.callbacks.round_streams import Carried, RoundStreams
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.callbacks.sample_count import shard_of, total_samples
from edgeml_lightning.callbacks.training_hooks import TrainingHooks
from edgeml_lightning.callbacks.weight_averages import restart_averages_
from edgeml_lightning.distributed import LocalRanks, Ranks
from edgeml_lightning.distributed.sharding import reshard_
from edgeml_lightning.distributed.training_processes import ranks_of
from edgeml_lightning.errors import FederationError
from edgeml_lightning.personalization import PersonalState, PersonalStore
from edgeml_lightning.strategies import FederatedStrategy
from edgeml_lightning.trainer_facts import callbacks_of, is_trial_run

if TYPE_CHECKING:
    from torch import Tensor

    from edgeml_client import FederatedClient
    from edgeml_client.schemas import UpdateReceipt

__all__ = ["FederatedCallback"]

_log = logging.getLogger(__name__)


class FederatedCallback(TrainingHooks):
    """One ``Trainer.fit`` is one federated round.

    Before training it waits for a round, loads its global model into the module and, with
    ``num_sanity_val_steps=-1``, measures it. While training it does what the strategy adds. Afterwards it
    uploads what training changed, and keeps what is personal on the device. If training fails or is
    interrupted, nothing is uploaded, and the next fit starts the same round again.

    After the fit the module holds the locally trained *shared* model (for FedPer the body under the device's
    own head; for a ``DittoModule`` both models). The next global model is loaded by the next fit. The
    personal model is what :meth:`personal_module` returns.

    Args:
        client: The device's connection, or a function that makes one when it is first needed, in the one
            process that talks to the control plane. ``None`` takes all from the environment.
        model: Name or id of the global model.
        strategy: What a round does to training; ``None`` takes what the module's class or the round asks for.
        filters: Filters for the update, after those that the round asks for.
        wait_s: For how long to wait for a round, in seconds.
        when_unassigned: What to do if none comes: ``raise``, or ``train_locally`` without a federation.
        sample_count: Training samples on this device, the update's weight; ``None`` counts the data.
        personal_store: Where personal state is kept; by default beside the client's other state.
        clock: Measures durations.

    Attributes:
        carried: What a trainer of many rounds takes along over restarts.
        connection: What makes and holds the client.
        last_round: The round of the last fit; ``None`` if it was none.
        last_receipt: The control plane's word that it holds the update of the last fit, if there was one.

    Raises:
        ConfigurationError: An argument cannot work.
    """

    def __init__(
        self,
        client: FederatedClient | Callable[[], FederatedClient] | None = None,
        *,
        model: str,
        strategy: FederatedStrategy | None = None,
        filters: Sequence[Mapping[str, Any]] = (),
        wait_s: float = 60.0,
        when_unassigned: Literal["raise", "train_locally"] = "raise",
        sample_count: int | None = None,
        personal_store: PersonalStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        if when_unassigned not in {"raise", "train_locally"}:
            raise ConfigurationError(
                f'when_unassigned must be "raise" or "train_locally", not {when_unassigned!r}'
            )
        if sample_count is not None and sample_count < 1:
            raise ConfigurationError(f"sample_count must be at least 1, not {sample_count}")
        if not isinstance(strategy, FederatedStrategy | None):  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks are not type-checked
            raise ConfigurationError(
                f"strategy must be one such as FedAvg() or Ditto(lambda_ditto=0.1), not {strategy!r}"
            )
        check_wait(wait_s)
        self.connection = Connection(client)
        self.model = model
        self.strategy = strategy
        self.filters = tuple(filters)
        resolve_filters(self.filters)
        self.wait_s = wait_s
        self.when_unassigned: Literal["raise", "train_locally"] = when_unassigned
        self.sample_count = sample_count
        self.personal_store = personal_store
        self.last_round: RoundRecord | None = None
        self.last_receipt: UpdateReceipt | None = None
        self._clock = clock or SystemClock()
        self._ranks: Ranks = LocalRanks()
        self._resumed: RoundCheckpoint | None = None
        self._saved: PersonalState | None = None
        self.carried: Carried | None = None
        self._before: BeforeTraining | None = None

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(model=self.model)

    # The round.

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        require_lightning(trainer, kind=L.Trainer)
        require_lightning(pl_module, kind=L.LightningModule)
        check_alone([each.model for each in callbacks_of(trainer) if isinstance(each, FederatedCallback)])
        reshard_(pl_module)
        if stage == TrainerFn.FITTING:
            check_trainer(trainer)

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.last_round, self.last_receipt = None, None
        self._round, self._personal = None, PersonalSide(self.meet(trainer))
        self._streams = RoundStreams(self.carried)
        self._before = BeforeTraining.of(pl_module)
        if not trainer.strategy.restore_checkpoint_after_setup:
            self._begin(trainer, pl_module)

    @override
    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.strategy.restore_checkpoint_after_setup and self._round is None:
            self._begin(trainer, pl_module)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        reshard_(pl_module)

    @override
    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._round is not None and trainer.num_sanity_val_steps == float("inf"):
            self._round.received_metrics = local_figures(trainer.callback_metrics)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.strategy.restore_checkpoint_after_setup and self._round is None:
            self._begin(trainer, pl_module)
        running = self._round
        if running is None:
            return
        check_optimizers(running.strategy, trainer.optimizers)
        check_gradients(running.strategy, pl_module)
        if running.companions is not None:
            mine = [str(entry["type"]) for entry in self.filters]
            check_companions(running.strategy, trainer, (*running.filter_types, *mine))
        running.sample_count = self.sample_count or self._count_samples(trainer)
        if running.first_step is None:
            running.first_step = trainer.global_step
        if running.first_epoch is None:
            running.first_epoch = trainer.current_epoch
        check_epochs(running.strategy, trainer, first_epoch=running.first_epoch)
        self._personal.start_training(trainer, pl_module, running)
        self._streams.start_training(trainer)

    def meet(self, trainer: L.Trainer) -> Ranks:
        """Return the processes that train together, connected."""
        self._ranks = ranks_of(trainer, known=self._ranks)
        return self._ranks

    def _count_samples(self, trainer: L.Trainer) -> int:
        loader, max_batches = trainer.train_dataloader, trainer.num_training_batches
        shard = self._ranks.on_every(lambda: shard_of(loader, max_batches=max_batches))
        return total_samples(self._ranks.gather(shard))

    def _begin(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        started_s, first = self._clock.monotonic_s(), self._first_process()
        joined = self._ranks.on_first(lambda: first.join(module))
        if joined is None:
            _log.info("no round of model %r was assigned to this device: training locally", self.model)
            return
        resumed, saved = usable(self._resumed, self._saved, joined=joined)
        running = receive(
            joined,
            module,
            ranks=self._ranks,
            started_s=started_s,
            resumed=resumed,
            recall=lambda expected: first.recall(joined, expected, saved=saved),
        )
        self._round = running
        if running.recalled is None and running.split.kept:
            self._before = BeforeTraining.of(module, running.split.kept)
        self._personal.begin(trainer, module, running)
        kept = KeptMarks(*first.files(joined)) if self._ranks.is_first else None
        self._streams.begin(trainer, self._ranks, kept=kept, round_id=joined.assignment.round_id)
        if resumed is None:
            restart_averages_(trainer, module)
        else:
            self._streams.go_on(trainer, resumed.streams)

    def _first_process(self) -> FirstProcess:
        return FirstProcess(
            connection=self.connection,
            model=self.model,
            strategy=self.strategy,
            filters=self.filters,
            wait_s=self.wait_s,
            when_unassigned=self.when_unassigned,
            personal_store=self.personal_store,
        )

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        running = self._round
        if running is None or running.room_is_checked or trainer.global_step == running.first_step:
            return
        running.room_is_checked = True
        if num_bytes := self._personal.num_bytes():
            first = self._first_process()
            self._ranks.on_first(lambda: first.check_room(running.joined, num_bytes=num_bytes))

    # The end.

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        running = self._leave()
        if running is None:
            self._before = None
            return
        running.require_arrays(pl_module)
        first_step = running.first_step if running.first_step is not None else trainer.global_step
        num_steps = trainer.global_step - first_step
        sent = self._sent(running, trainer, pl_module, num_steps=num_steps)
        kept, marks, first = self._personal.finish(), self._streams.end(self._ranks), self._first_process()
        not_kept: FederationError | None = None

        def conclude() -> tuple[UpdateReceipt | None, RoundRecord]:
            nonlocal not_kept
            receipt = None
            if sent is not None:
                figures = local_figures(trainer.callback_metrics)
                receipt, not_kept = first.conclude(running, *sent, metrics=figures, kept=kept, marks=marks)
            ended_s = self._clock.monotonic_s()
            return receipt, record_of(running, trainer, receipt=receipt, num_steps=num_steps, ended_s=ended_s)

        def raise_not_kept() -> None:
            if not_kept is not None:
                raise not_kept

        self.last_receipt, self.last_round = self._ranks.on_first(conclude)
        self._before = None
        report(trainer, self.last_round)
        self._ranks.on_first(raise_not_kept)

    def _sent(
        self, running: RunningRound, trainer: L.Trainer, module: L.LightningModule, *, num_steps: int
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None:
        """Return the arrays to send, as received and as trained; or ``None``, with the reason in the log."""
        unsent = running.why_unsent(num_steps=num_steps, is_trial=is_trial_run(trainer))
        if unsent is not None:
            _log.warning("%s: %s, so nothing is uploaded", running.assignment.round_id, unsent)
            return None
        if running.companions is not None:
            running.companions.advance_(module, reference=running.reference)
        return running.before_and_after(module, self._ranks)

    @override
    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        running = self._leave()
        if running is not None:
            self._personal = PersonalSide()
            _log.warning(
                "%s: training ended with %s, so nothing was uploaded; the next fit starts it again",
                running.assignment.round_id,
                type(exception).__name__,
            )
        before, self._before = self._before, None
        if before is not None:
            before.restore_modes_()
            if running is not None or isinstance(exception, NonFiniteError):
                before.restore_arrays_(pl_module)
        self.close()

    def _leave(self) -> RunningRound | None:
        """Let go of the round and of the checkpoint it may have gone on from."""
        running, self._round, self._resumed, self._saved = self._round, None, None, None
        return running

    # The personal model.

    def personal_module(self) -> L.LightningModule:
        """Return the module to use on this device after a fit.

        For Ditto and APFL on an ordinary module that is the second, personal copy; for strategies that keep
        a part of the module, and for a ``DittoModule``, it is the fitted module itself. It can be given to
        any Trainer's ``validate``, ``test`` or ``predict``.

        Raises:
            FederationError: The last fit kept nothing personal.
        """
        if self._personal.module is None:
            raise FederationError(
                "the last fit left no personal model: fit first, with a strategy that keeps one, say Ditto"
            )
        return self._personal.module

    # Connection, checkpoints, copies.

    def close(self) -> None:
        """Close the connection if this callback made it; a client that was handed in stays open."""
        self.connection.close()

    @override
    def state_dict(self) -> dict[str, Any]:
        running, personal = self._round, self._personal.state()
        state: dict[str, Any] = {"personal": personal.to_checkpoint()} if personal is not None else {}
        if running is not None:
            state["round"] = RoundCheckpoint.of(running, streams=self._streams.state()).to_state()
        return state

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        round_, personal = state_dict.get("round"), state_dict.get("personal")
        self._resumed = None if round_ is None else RoundCheckpoint.from_state(round_)
        self._saved = None if personal is None else PersonalState.from_checkpoint(personal)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process can use: the arguments and the last record, no connection."""
        state = dict(self.__dict__)
        for name in ("log", "log_dict"):
            state.pop(name, None)
        return state | {
            "_round": None,
            "_personal": PersonalSide(),
            "_ranks": LocalRanks(),
            "_streams": RoundStreams(),
            "_before": None,
        }
