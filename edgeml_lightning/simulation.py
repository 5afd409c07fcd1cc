"""A whole federation in one process, for notebooks, tests and experiments.

Everything but the distance is real: an embedded control plane, one enrolled client a device with its own
tokens and folder, and models that travel through HTTP. Devices take their turns one after another.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lightning as L

from edgeml_client.clock import SystemClock
from edgeml_client.errors import ConfigurationError, MissingExtraError
from edgeml_client.schemas import RoundConfig, RoundStatus
from edgeml_lightning.errors import FederationError
from edgeml_lightning.federation_history import DeviceRecord, FederationHistory, FederationRound
from edgeml_lightning.judge import Judge
from edgeml_lightning.quiet import quiet_lightning
from edgeml_lightning.seeding import seeded
from edgeml_lightning.simulated_device import SimulatedDevice, connected_client, named

if TYPE_CHECKING:
    from edgeml_client import FederatedClient
    from edgeml_lightning.callbacks.round_record import RoundRecord
    from edgeml_lightning.strategies import FederatedStrategy
    from edgeml_server import EmbeddedServer

__all__ = ["device_name", "simulate"]

_MODEL: Final = "simulation"
_DEADLINE_S: Final = 24 * 3600.0
_AGGREGATION_TIMEOUT_S: Final = 120.0
_TRAINER_OPTIONS: Final[Mapping[str, Any]] = {
    "max_epochs": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "num_sanity_val_steps": 0,
}
"""What each device's trainer does unless told otherwise: train, and leave no trace."""


def device_name(index: int) -> str:
    """Return the identifier of a simulation's device, such as ``device-03``."""
    return f"device-{index:02d}"


def simulate(
    module_factory: Callable[[], L.LightningModule],
    datamodules: Sequence[L.LightningDataModule],
    *,
    rounds: int,
    strategy: FederatedStrategy | None = None,
    cohort_size: int | None = None,
    config: RoundConfig | None = None,
    seed: int = 0,
    trainer_options: Mapping[str, Any] | None = None,
    server: EmbeddedServer | None = None,
    on_round: Callable[[FederationRound], None] | None = None,
) -> FederationHistory:
    """Run a federation of one device for each data module and return how it went.

    After every round the new global model is measured on each device's held-out data (its test data, or its
    validation data if there is no test), and so is each device's personal model, as it left its last round.
    All randomness depends on ``seed``, the round and the device alone: the same arguments on the same machine
    give the same figures, bit for bit, and the caller's random streams are left as they were.

    ::

        history = simulate(DigitsNet, data_of_devices, strategy=Ditto(lambda_ditto=0.1), rounds=15)
        history[-1].mean("test_acc", of="personal")

    Args:
        module_factory: Makes a module; called once for the global model and once for each device.
        datamodules: The data of each device.
        rounds: At least 1.
        strategy: What a round does to training on the devices; by default what the module's class asks
            for, else what ``config`` says, else federated averaging.
        cohort_size: How many devices, drawn at random, train in each round; all by default.
        config: What the control plane asks of every round, such as filters.
        seed: At least 0.
        trainer_options: What ``lightning.Trainer`` takes; ``max_epochs`` are the epochs of one round. By
            default one epoch, with neither logger nor checkpoints, bars or sanity check.
        server: A running control plane; by default one is started, and removed at the end. Every
            simulation is an organization of its own there.
        on_round: Called after each round, to show progress.

    Raises:
        ConfigurationError: An argument cannot work.
        FederationError: A round produced no new global model.
        Exception: Whatever a device raises, with a note that names the device and the round.
    """
    if rounds < 1 or not datamodules:
        raise ConfigurationError("a simulation needs at least one round and one data module")
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        federation = _Federation(
            stack.enter_context(_embedded_server()) if server is None else server,
            module_factory,
            strategy=strategy,
            config=config or RoundConfig(),
            seed=seed,
            trainer_options={**_TRAINER_OPTIONS, **(trainer_options or {})},
        )
        federation.enrol(stack, datamodules)
        return federation.run(rounds=rounds, cohort_size=cohort_size, on_round=on_round)


class _Federation:
    """One organization with its global model and its devices."""

    def __init__(
        self,
        server: EmbeddedServer,
        module_factory: Callable[[], L.LightningModule],
        *,
        strategy: FederatedStrategy | None,
        config: RoundConfig,
        seed: int,
        trainer_options: Mapping[str, Any],
    ) -> None:
        self._server = server
        self._module_factory = module_factory
        self._strategy = strategy
        self._config = config
        self._seed = seed
        self._trainer_options = trainer_options
        self._clock = SystemClock()
        self._org_id = f"simulation-{uuid.uuid4().hex[:12]}"
        self._clients: list[FederatedClient] = []
        self._devices: list[SimulatedDevice] = []
        self._judge = Judge(
            self._new_module(), strategy=strategy, config=config, trainer_options=trainer_options
        )
        server.register_model(org_id=self._org_id, name=_MODEL, state=self._judge.shared_state())

    def _new_module(self) -> L.LightningModule:
        """Make a module; all of a simulation start from the same weights."""
        with seeded(self._seed):
            return self._module_factory()

    def enrol(self, stack: ExitStack, datamodules: Sequence[L.LightningDataModule]) -> None:
        """Enrol one device for each data module; the stack closes them."""
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeml-devices-")))
        for index, datamodule in enumerate(datamodules):
            name = device_name(index)
            with named(name, during="the enrolment"):
                client = connected_client(
                    name,
                    url=self._server.url,
                    org_id=self._org_id,
                    bootstrap_token=self._server.create_bootstrap_token(org_id=self._org_id),
                    folder=root / name,
                )
                stack.callback(client.close)
                device = SimulatedDevice(
                    name,
                    client=client,
                    module=self._new_module(),
                    datamodule=datamodule,
                    model=_MODEL,
                    strategy=self._strategy,
                    random_key=(self._seed, index),
                    trainer_options=self._trainer_options,
                )
            self._clients.append(client)
            self._devices.append(device)

    def run(
        self, *, rounds: int, cohort_size: int | None, on_round: Callable[[FederationRound], None] | None
    ) -> FederationHistory:
        """Open the series and play its rounds."""
        opened = self._server.create_round(
            org_id=self._org_id,
            model=_MODEL,
            num_rounds=rounds,
            min_updates=cohort_size or len(self._devices),
            cohort_size=cohort_size,
            deadline_s=_DEADLINE_S,
            config=self._config,
            seed=self._seed,
        )
        round_id = opened.round_id
        played: list[FederationRound] = []
        for number in range(1, rounds + 1):
            round_, status = self._play(round_id, number)
            played.append(round_)
            if on_round is not None:
                on_round(round_)
            round_id = status.next_round_id or round_id
        return FederationHistory(played, strategy=self._judge.strategy_label, seed=self._seed)

    def _play(self, round_id: str, number: int) -> tuple[FederationRound, RoundStatus]:
        started_s = self._clock.monotonic_s()
        # Asked before the first one trains: its update may end the round, and the next one begins at once.
        is_chosen = [device.is_chosen(round_id) for device in self._devices]
        trained = [
            device.train(round_number=number) if chosen else None
            for device, chosen in zip(self._devices, is_chosen, strict=True)
        ]
        status = self._server.wait_for_round(round_id, timeout_s=_AGGREGATION_TIMEOUT_S)
        if status.new_version is None:
            raise FederationError(
                f"round {number} of the simulation ended as {status.state!r} without a new global model"
                f"{f': {status.reason}' if status.reason else ''}"
            )
        round_ = FederationRound(
            round_number=number,
            version=status.new_version,
            devices=self._measure(status.new_version, trained, number=number),
            duration_s=self._clock.monotonic_s() - started_s,
        )
        return round_, status

    def _measure(
        self, version: str, trained: Sequence[RoundRecord | None], *, number: int
    ) -> tuple[DeviceRecord, ...]:
        arrays = self._clients[0].pull_global_model(_MODEL, version).torch_tensors()
        records: list[DeviceRecord] = []
        for device, record in zip(self._devices, trained, strict=True):
            with (
                named(device.name, during=f"the measurements after round {number}"),
                seeded(self._seed, number),
            ):
                records.append(
                    DeviceRecord(
                        device=device.name,
                        training=record,
                        global_metrics=self._judge.measure_global(arrays, device.datamodule),
                        personal_metrics=self._judge.measure_personal(device.personal, device.datamodule),
                    )
                )
        return tuple(records)


def _embedded_server() -> EmbeddedServer:
    try:
        from edgeml_server import EmbeddedServer  # noqa: PLC0415 - only a simulation without a server needs it
    except ImportError as exc:
        raise MissingExtraError("a simulation without a server", extra="server") from exc
    return EmbeddedServer()
