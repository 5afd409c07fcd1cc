"""The client of a device: register, take part in rounds, personalize."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.paths import endpoint
from edgeml_client.clock import Clock, SystemClock
from edgeml_client.config import resolve_config
from edgeml_client.errors import (
    ConfigurationError,
    InvalidResponseError,
    WaitTimeoutError,
)
from edgeml_client.resources.capabilities import Capabilities
from edgeml_client.resources.device_round import DeviceRound, assignment_from
from edgeml_client.resources.model_downloads import ModelDownloads, ModelFormat
from edgeml_client.resources.participation import RoundFormat, participate
from edgeml_client.resources.personal_models import PersonalModels, personal_state
from edgeml_client.resources.registered_device import RegisteredDevice
from edgeml_client.resources.round_calls import RoundCalls
from edgeml_client.resources.update_sender import FlushReport
from edgeml_client.rounds.ditto import DittoResult, train_ditto
from edgeml_client.rounds.fedper import train_fedper
from edgeml_client.rounds.local_training import LocalTrainFn
from edgeml_client.rounds.waiting import check_wait
from edgeml_client.schemas import (
    PersonalModel,
    Record,
    RoundAssignment,
    RoundStatus,
    UpdateReceipt,
)
from edgeml_client.updates.arrays import ArrayKind, State
from edgeml_client.updates.model_file import GlobalModel

__all__ = ["FederatedClient"]


class FederatedClient:
    """What a device needs to take part in a federation; usable from several threads.

    An argument that is ``None`` is taken from the environment (see :mod:`edgeml_client.config`).

    Args:
        auth_token_provider: Returns the access token, such as ``DeviceAuthClient.get_access_token_sync``.
        org_id: The organization.
        api_base: The address of the API, such as ``http://127.0.0.1:8080/api/v1``.
        device_identifier: A name of this device. A control plane that knows it from the token goes by that.
        platform: What kind of device this is.
        secure_aggregation: Not available in this version; ``True`` is refused.
        timeout: Longest silence of the control plane within a call, in seconds.
        download_timeout: The same for models and updates, in seconds.
        max_attempts: How often a call is tried before it fails.
        state_dir: Where devices keep what must survive a restart, such as updates that wait to be sent; by
            default the user's state folder.
        clock: Measures waiting.

    Raises:
        ConfigurationError: A setting cannot work.

    Example::

        with FederatedClient(auth_token_provider=auth.get_access_token_sync, org_id="clinic-a") as client:
            assignment = client.get_round_assignment(model="digits", wait_s=60)
            if assignment is not None:
                client.participate_in_round(assignment.round_id, train)
    """

    def __init__(  # noqa: PLR0917 - the positions are the published SDK's
        self,
        auth_token_provider: Callable[[], str] | None = None,
        org_id: str | None = None,
        api_base: str | None = None,
        device_identifier: str | None = None,
        platform: str | None = None,
        secure_aggregation: bool = False,  # noqa: FBT001, FBT002 - the position is the published SDK's
        *,
        timeout: float = 20.0,
        download_timeout: float = 120.0,
        max_attempts: int = 4,
        state_dir: Path | str | None = None,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        if secure_aggregation:
            raise ConfigurationError("secure aggregation is not available in this version")
        config = resolve_config(
            api_base=api_base, org_id=org_id, device_identifier=device_identifier, platform=platform
        )
        self.org_id = config.org_id
        self.platform = config.platform
        self.device_identifier = config.device_identifier or f"client-{uuid.uuid4().hex[:10]}"
        self._transport = HttpTransport(
            api_base=config.api_base,
            auth_token_provider=auth_token_provider,
            timeout=timeout,
            download_timeout=download_timeout,
            max_attempts=max_attempts,
            clock=clock,
        )
        self._capabilities = Capabilities(self._transport)
        self._device = RegisteredDevice(
            self._transport,
            capabilities=self._capabilities,
            org_id=self.org_id,
            identifier=self.device_identifier,
            platform=self.platform,
            state_dir=None if state_dir is None else Path(state_dir),
        )
        self._models = ModelDownloads(self._transport, org_id=config.org_id, capabilities=self._capabilities)
        self._personal = PersonalModels(self._transport, capabilities=self._capabilities)
        self._rounds = RoundCalls(
            self._transport,
            capabilities=self._capabilities,
            timeout_s=timeout,
            clock=clock,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311 - it spreads polls, and guards nothing
        )

    def __repr__(self) -> str:
        return f"FederatedClient(api_base={self._transport.api_base!r}, org_id={self.org_id!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> object:
        raise TypeError("a FederatedClient holds connections; make one in each process")

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self._transport.close()

    # --- this device -----------------------------------------------------------------------------

    @property
    def api_base(self) -> str:
        """The address of the API."""
        return self._transport.api_base

    @property
    def device_id(self) -> str | None:
        """This device as the control plane knows it; ``None`` before :meth:`register`."""
        return self._device.known_id

    @property
    def device_dir(self) -> Path:
        """The folder for what this device keeps between runs; registers the device if need be.

        It is named after the device's id, so that several devices, or control planes, never share one.
        """
        return self._device.folder()

    @property
    def num_bytes_sent(self) -> int:
        """Bytes of request bodies sent so far, repetitions included."""
        return self._transport.num_bytes_sent

    @property
    def num_bytes_received(self) -> int:
        """Bytes of answers received so far."""
        return self._transport.num_bytes_received

    def register(self, feature_schema: Sequence[str] | None = None) -> str:
        """Return the id of this device, registering it at the first call.

        Updates that wait from an earlier run are sent then; when the network is lost meanwhile, they
        keep waiting.

        Args:
            feature_schema: The names of the input features, if the control plane should know them.
        """
        return self._device.register(feature_schema)

    # --- rounds ----------------------------------------------------------------------------------

    def get_round_assignment(
        self, *, model: str | None = None, wait_s: float = 0.0
    ) -> RoundAssignment | None:
        """Return the round this device was chosen for and has not answered, or ``None``.

        Updates that wait are sent before, so that no round is trained again whose update is there already.

        Args:
            model: Only rounds of this model, by name or id.
            wait_s: How many seconds to wait for one; 0 asks once.

        Raises:
            ConfigurationError: ``wait_s`` is negative or not a number.
        """
        check_wait(wait_s)
        device_id = self._device.register_and_send()
        model_id = None if model is None else self._models.resolve_id(model)
        return self._rounds.find_assignment(device_id, model_id=model_id, wait_s=wait_s)

    def get_round_status(self, round_id: str, *, wait_s: float = 0.0) -> RoundStatus:
        """Return how far a round is.

        Args:
            round_id: The round.
            wait_s: Wait for the round's end, but no more than this many seconds.

        Raises:
            ConfigurationError: ``wait_s`` is negative or not a number.
        """
        check_wait(wait_s)
        ended = self._rounds.wait_until_ended(round_id, wait_s=wait_s) if wait_s > 0 else None
        return ended or self._rounds.status(round_id)

    def wait_for_round(self, round_id: str, *, timeout_s: float) -> RoundStatus:
        """Return the status of a round that has ended, completed or abandoned.

        Raises:
            WaitTimeoutError: It has not within ``timeout_s`` seconds.
            ConfigurationError: ``timeout_s`` is negative or not a number.
        """
        check_wait(timeout_s, name="timeout_s")
        status = self._rounds.wait_until_ended(round_id, wait_s=timeout_s)
        if status is None:
            raise WaitTimeoutError(f"round {round_id!r} did not end within {timeout_s:g} s; wait again")
        return status

    def join_round(self, round: str | RoundAssignment) -> DeviceRound:  # noqa: A002 - the contract's word
        """Return the round, ready to be downloaded.

        Args:
            round: An assignment, or the id of a round.

        Raises:
            RoundStateError: The round has ended.
            FilterConfigError: It asks for filters that this client cannot apply.
            ConfigurationError: It asks for secure aggregation.
        """
        device_id = self.register()
        assignment = round if isinstance(round, RoundAssignment) else self._assignment(round)
        return DeviceRound(
            assignment,
            device_id=device_id,
            calls=self._rounds,
            models=self._models,
            sender=self._device.sender(),
        )

    def participate_in_round(
        self,
        round_id: str,
        local_train_fn: LocalTrainFn,
        format: RoundFormat = "auto",  # noqa: A002 - published
    ) -> UpdateReceipt:
        """Take part in a round with any training loop, from the download to the receipt.

        The round's FedPer head (``config.head_layers``) stays out of the update; keeping it for the next
        round is up to ``local_train_fn``. Its FedProx term (``config.proximal_mu``) is handed to a function
        that takes the keyword ``proximal``; for any other a warning is logged, because nothing done after
        training can stand in for it.

        Args:
            round_id: The round.
            local_train_fn: Maps a state dict to ``(state_dict, sample_count, metrics)``; may train in place.
            format: Which arrays it gets: ``pytorch``, ``numpy``, or ``auto`` for torch tensors in a program
                that uses torch.

        Raises:
            ModelMismatchError, NonFiniteError, NormExceededError, InvalidUpdateError: Training returned
                something that cannot be sent.
            ConnectionFailedError: The network was lost; a trained update is kept, see :meth:`flush_outbox`.
            RequestRefusedError: The control plane said no.
        """
        return participate(self.join_round(round_id), local_train_fn, arrays=format)

    def flush_outbox(self) -> FlushReport:
        """Send the updates that wait from earlier, and return what became of them.

        Raises:
            ConnectionFailedError: No answer came; the updates keep waiting.
            RequestRefusedError: The control plane is overloaded, or does not accept the token.
        """
        return self._device.sender().flush()

    # --- models ----------------------------------------------------------------------------------

    def pull_model(self, model: str, version: str | None = None, format: ModelFormat = "pytorch") -> bytes:  # noqa: A002 - published
        """Return the file of a model.

        Args:
            model: Its name or id.
            version: The version; by default the latest.
            format: ``pytorch``, the torch-saved form, or ``safetensors``.
        """
        model_id, wanted = self._version_of(model, version)
        return self._models.pull(model_id, wanted, model_format=format)

    def pull_global_model(self, model: str, version: str | None = None) -> GlobalModel:
        """Return a model as named arrays; by default the latest version of it.

        Raises:
            InvalidResponseError: What came is no model.
        """
        model_id, wanted = self._version_of(model, version)
        return self._models.pull_global(model_id, wanted)[0]

    # --- personalization and privacy -------------------------------------------------------------

    def get_personalized_model(self) -> PersonalModel:
        """Return the personal model that the control plane keeps for this device."""
        return self._personal.get(self.register())

    def get_personalized_state(self, arrays: ArrayKind = "auto") -> dict[str, Any]:
        """Return the arrays of that personal model.

        Args:
            arrays: ``torch``, ``numpy``, or ``auto`` for torch tensors in a program that uses torch.

        Raises:
            NotFoundError: The control plane keeps none for this device.
            InvalidResponseError: What came cannot be read.
        """
        return personal_state(self.get_personalized_model(), arrays=arrays)

    def upload_personalized_update(
        self, weights: State | bytes, metrics: Mapping[str, Any] | None = None
    ) -> Record:
        """Store a personal model on the control plane; it leaves the device only by this call.

        Args:
            weights: The whole personal state dict, or a file of it.
            metrics: Figures about it; those that are not finite numbers are left out.
        """
        return self._personal.put(self.register(), weights, metrics)

    def train_ditto(
        self,
        global_model: State,
        personal_model: State,
        local_train_fn: LocalTrainFn,
        lambda_ditto: float = 0.1,
    ) -> DittoResult:
        """Train the shared and the personal model; see :func:`edgeml_client.rounds.train_ditto`."""
        return train_ditto(global_model, personal_model, local_train_fn, lambda_ditto)

    def train_fedper(
        self, model: State, head_layers: Sequence[str], local_train_fn: LocalTrainFn
    ) -> tuple[dict[str, Any], int, dict[str, float]]:
        """Train all, return the body's delta; see :func:`edgeml_client.rounds.train_fedper`."""
        return train_fedper(model, head_layers, local_train_fn)

    def get_privacy_budget(self, federation_id: str) -> Record:
        """Return what a federation has spent of its privacy budget, and what is left."""
        return self._transport.call("GET", endpoint("/federations/{}/privacy", federation_id), Record)

    # --- inside ----------------------------------------------------------------------------------

    def _assignment(self, round_id: str) -> RoundAssignment:
        status = self._rounds.status(round_id)
        model_id = status.config.model_id or status.model_id
        if not model_id:
            raise InvalidResponseError(f"the control plane names no model for round {round_id!r}")
        version = status.config.version or status.version or self._models.latest_version(model_id)
        return assignment_from(status, model_id=model_id, version=version)

    def _version_of(self, model: str, version: str | None) -> tuple[str, str]:
        model_id = self._models.resolve_id(model)
        return model_id, version or self._models.latest_version(model_id)
