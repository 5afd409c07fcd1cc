"""One round on one device: download, train, submit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from edgeml_client.errors import ConfigurationError, ModelMismatchError, RoundStateError
from edgeml_client.filters import DeltaFilter, FilterConfig, FilterStep, resolve_announced, resolve_filters
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.resources.model_downloads import ModelDownloads
from edgeml_client.resources.round_calls import RoundCalls, has_ended
from edgeml_client.resources.update_making import make_update
from edgeml_client.resources.update_sender import UpdateSender
from edgeml_client.rounds.local_training import finite_metrics, valid_sample_count
from edgeml_client.rounds.progress import RoundProgress, RoundStep
from edgeml_client.schemas import RoundAssignment, RoundConfig, RoundStatus, UpdateHeader, UpdateReceipt
from edgeml_client.updates.arrays import State, layout_of
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.model_file import GlobalModel
from edgeml_client.updates.streamed_delta import StreamedDelta
from edgeml_client.updates.vector import DeltaVector

__all__ = ["DeviceRound", "assignment_from"]


def assignment_from(status: RoundStatus, *, model_id: str, version: str) -> RoundAssignment:
    """Return the assignment that stands behind the status of a round.

    Raises:
        RoundStateError: The round has ended.
    """
    if has_ended(status):
        raise RoundStateError(f"round {status.round_id!r} is {status.state}: ask for the next assignment")
    return RoundAssignment(
        round_id=status.round_id,
        model_id=model_id,
        version=version,
        state=status.state,
        config=status.config,
        base_digest=status.base_digest,
        round_number=status.round_number,
        num_rounds=status.num_rounds,
        deadline_at=status.deadline_at,
    )


class DeviceRound:
    """A round this device takes part in; :meth:`FederatedClient.join_round` makes one.

    Its steps are guarded: download, then submit, once. Between the two the caller trains.

    Args:
        assignment: What the control plane asks of this device.
        device_id: This device, as the control plane knows it.
        calls: Reads rounds.
        models: Downloads the global model.
        sender: Stores and sends the update.

    Raises:
        FilterConfigError: The round asks for filters that this client cannot apply: better now than after
            training.
        ConfigurationError: The round asks for secure aggregation, which this version cannot do. Its update
            is never sent in the clear instead.
    """

    def __init__(
        self,
        assignment: RoundAssignment,
        *,
        device_id: str,
        calls: RoundCalls,
        models: ModelDownloads,
        sender: UpdateSender,
    ) -> None:
        if assignment.config.secure_aggregation:
            raise ConfigurationError(
                f"round {assignment.round_id!r} asks for secure aggregation, which this version cannot do"
            )
        self.assignment = assignment
        self.num_bytes_received = 0
        self.num_bytes_sent = 0
        self._progress = RoundProgress(assignment.round_id)
        self._device_id = device_id
        self._calls = calls
        self._models = models
        self._sender = sender
        self._filters = resolve_announced(assignment.config)
        self._model: GlobalModel | None = None
        self.check_filters()

    def check_filters(self, filters: Iterable[FilterConfig | DeltaFilter] = ()) -> None:
        """Check that ``filters`` can follow those of the round; do this before training, not after.

        Raises:
            FilterConfigError: One of them is wrong, or stands in the wrong place.
        """
        split_coded_ending(self._followed_by(filters))

    def _followed_by(self, filters: Iterable[FilterConfig | DeltaFilter]) -> tuple[FilterStep, ...]:
        steps = (*self._filters, *resolve_filters(filters, behind=self._filters))
        if self._model is not None:
            _check_layout(steps, self._model.layout)
        return tuple(step.for_round(self.round_id) for step in steps)

    def __repr__(self) -> str:
        return f"DeviceRound({self.round_id!r}, {self.step})"

    @property
    def round_id(self) -> str:
        """The round."""
        return self.assignment.round_id

    @property
    def config(self) -> RoundConfig:
        """What the round asks of its devices."""
        return self.assignment.config

    @property
    def step(self) -> RoundStep:
        """The last step this device has completed."""
        return self._progress.step

    @property
    def status(self) -> RoundStatus:
        """How far the round is, asked from the control plane at each use."""
        return self._calls.status(self.round_id)

    def download(self) -> GlobalModel:
        """Return the round's global model; a second call returns the same one without a request.

        Raises:
            RoundStateError: The update was submitted already.
            InvalidResponseError: What came is no model, or not the one the round starts from.
            FilterConfigError: A filter of the round names arrays that the model does not have.
        """
        self._progress.require(RoundStep.DOWNLOADED)
        if self._model is None:
            self._model, num_bytes = self._models.pull_global(
                self.assignment.model_id, self.assignment.version, base_digest=self.assignment.base_digest
            )
            self.num_bytes_received += num_bytes
            _check_layout(self._filters, self._model.layout)
        self._progress = self._progress.advance(RoundStep.DOWNLOADED)
        return self._model

    def submit(
        self,
        delta: State | DeltaVector | StreamedDelta,
        *,
        sample_count: int,
        metrics: Mapping[str, Any] | None = None,
        private: Collection[str] = (),
        filters: Iterable[FilterConfig | DeltaFilter] = (),
    ) -> UpdateReceipt:
        """Filter, store and send the update; return once the control plane holds it.

        Args:
            delta: Local after training minus global before, for every floating array that is not private. A
                :class:`DeltaVector` is given away: it is overwritten, which saves a copy. A
                :class:`StreamedDelta` saves the memory of a whole delta where the update is coded.
            sample_count: Samples behind it, at least 1.
            metrics: Figures about the training; those that are not finite numbers are left out.
            private: Arrays that stay on this device and are absent from ``delta``.
            filters: Applied after those the round asks for.

        Raises:
            RoundStateError: There was no download, or an update was submitted already; with error feedback,
                also when an earlier run of this device made one.
            ModelMismatchError: ``delta`` has other names or shapes than the global model.
            NonFiniteError: ``delta`` holds NaN or Inf.
            NormExceededError: ``norm_validation`` refused it.
            InvalidUpdateError: ``sample_count`` is below 1.
            FilterConfigError: A filter of ``filters`` is wrong.
            ConfigurationError: The outbox cannot be written.
            RoundClosedError, StaleBaseError, ConflictError, UnprocessableError: It was refused for good.
            ConnectionFailedError: No answer came; the update is kept and :meth:`FederatedClient.flush_outbox`
                sends it.
        """
        self._progress.require(RoundStep.TRAINED)
        model = self.download()
        staying = _private_arrays(model.layout, private)
        _require_fit(model.layout.floating.without(frozenset(staying)), delta)
        base_digest = self.assignment.base_digest or model.digest
        num_samples, figures = valid_sample_count(sample_count), finite_metrics(metrics)
        announced = self.config.capabilities
        made = make_update(
            delta,
            self._followed_by(filters),
            header_for=lambda trail: UpdateHeader(
                round_id=self.round_id,
                model_id=self.assignment.model_id,
                base_version=self.assignment.version,
                base_digest=base_digest,
                device_id=self._device_id,
                sample_count=num_samples,
                metrics=figures,
                private=staying,
                filters=trail,
            ),
            layout=model.layout,
            residuals=self._sender.residuals,
            allow_coded=self._sender.may_send_coded(announced),
        )
        stored = self._sender.store(made.data, left_out=made.left_out)
        self._progress = self._progress.advance(RoundStep.TRAINED)
        receipt, num_bytes = self._sender.send(stored, made.data, announced=announced)
        self.num_bytes_sent += num_bytes
        self._progress = self._progress.advance(RoundStep.SUBMITTED)
        return receipt


def _check_layout(filters: Iterable[FilterStep], layout: Layout) -> None:
    for step in filters:
        step.step.check_layout(layout)


def _private_arrays(layout: Layout, private: Collection[str]) -> tuple[str, ...]:
    unknown = sorted(name for name in private if name not in layout)
    if unknown:
        raise ModelMismatchError("private names arrays that the global model does not have:", unknown)
    return tuple(name for name in layout.floating.names if name in frozenset(private))


def _require_fit(expected: Layout, delta: State | DeltaVector | StreamedDelta) -> None:
    given = delta.layout if isinstance(delta, DeltaVector | StreamedDelta) else layout_of(delta)
    expected.require_same_arrays(
        given, summary="the delta does not fit the global model:", match_dtypes=False
    )
