"""Sending updates out of the outbox, each until the control plane holds it or refuses it for good."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeml_client._transport.bodies import Body, BytesBody, FileBody
from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.paths import endpoint
from edgeml_client.errors import (
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    EdgeMLClientError,
    InvalidUpdateError,
    NotFoundError,
    OutboxBusyError,
    PayloadTooLargeError,
    RoundClosedError,
    StaleBaseError,
    UnprocessableError,
)
from edgeml_client.resources.capabilities import Capabilities
from edgeml_client.schemas import Capability, UpdateReceipt, WeightsUpload
from edgeml_client.updates.coding.left_out import LeftOut
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.outbox import Outbox, PendingUpdate
from edgeml_client.updates.streamed_update import StreamedUpdate, UpdateData
from edgeml_client.updates.torch_format import dumps_state_dict
from edgeml_client.updates.update_file import UPDATE_CONTENT_TYPE, read_arrays

__all__ = ["FlushReport", "UpdateSender"]

_REFUSED_FOR_GOOD: Final = (
    ConfigurationError,  # an id in it cannot be part of a request
    ConflictError,
    InvalidUpdateError,  # it was coded for a control plane that takes the legacy form only by now
    NotFoundError,
    PayloadTooLargeError,
    RoundClosedError,
    StaleBaseError,
    UnprocessableError,
)
_SEND_PATIENCE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class FlushReport:
    """What became of the updates that waited.

    Attributes:
        receipts: Of those the control plane now holds.
        rejected: Why it refused others for good; these lie in the outbox's folder ``rejected``.
        num_waiting: How many still wait, because another process is sending them.
    """

    receipts: tuple[UpdateReceipt, ...] = ()
    rejected: tuple[EdgeMLClientError, ...] = ()
    num_waiting: int = 0


class UpdateSender:
    """Sends what lies in an outbox.

    Args:
        transport: Sends the requests.
        outbox: Of this device.
        capabilities: Decides between the binary form of an update and the legacy one.
    """

    def __init__(self, transport: HttpTransport, *, outbox: Outbox, capabilities: Capabilities) -> None:
        self._transport = transport
        self._outbox = outbox
        self._capabilities = capabilities

    @property
    def residuals(self) -> ResidualStore:
        """Where this device keeps what its updates leave out."""
        return self._outbox.residuals

    def may_send_coded(self, announced: tuple[str, ...] = ()) -> bool:
        """Return whether the control plane reads coded updates.

        Args:
            announced: Capabilities that the round's config names.
        """
        return all(
            name in announced or name in self._capabilities
            for name in (Capability.UPDATES_BINARY, Capability.UPDATES_CODED)
        )

    def store(self, data: UpdateData, *, left_out: LeftOut | None = None) -> PendingUpdate:
        """Put an update file into the outbox; from here on it will be sent, sooner or later.

        Args:
            data: The update file.
            left_out: What it leaves for the next round to send, to be stored with it.

        Raises:
            ConfigurationError: The folder of the outbox cannot be written.
        """
        return self._outbox.put(data, left_out=left_out)

    def send(
        self, update: PendingUpdate, data: UpdateData, *, announced: tuple[str, ...] = ()
    ) -> tuple[UpdateReceipt, int]:
        """Send a stored update, and return the receipt and the bytes of the request.

        Args:
            update: What :meth:`store` returned.
            data: The update file.
            announced: Capabilities that the round's config names.

        Raises:
            RequestRefusedError: It was refused; for good means it lies in ``rejected/`` now.
            ConnectionFailedError: No answer came; the update waits in the outbox.
        """
        try:
            with self._outbox.sending(timeout_s=_SEND_PATIENCE_S):
                return self._send(update, data, announced=announced)
        except ConnectionFailedError as exc:
            raise ConnectionFailedError(
                f"{exc}; the update is kept in {update.path} and will be sent by flush_outbox(), "
                "or at the next start"
            ) from exc
        except EdgeMLClientError as exc:
            if update.path.exists():
                exc.add_note(f"The update is kept in {update.path} and will be sent by flush_outbox().")
            raise

    def flush(self) -> FlushReport:
        """Send everything that waits, the oldest first; what is refused for good is set aside.

        Raises:
            ConnectionFailedError: No answer came; the rest keeps waiting.
            RequestRefusedError: The control plane is overloaded, or does not accept the token; the rest
                keeps waiting.
        """
        if not self._outbox.pending():
            return FlushReport()
        try:
            with self._outbox.sending(timeout_s=0.0):
                return self._send_all()
        except OutboxBusyError:
            return FlushReport(num_waiting=len(self._outbox.pending()))

    def _send_all(self) -> FlushReport:
        receipts: list[UpdateReceipt] = []
        rejected: list[EdgeMLClientError] = []
        for update in self._outbox.pending():
            try:
                receipts.append(self._send(update, update.path)[0])
            except _REFUSED_FOR_GOOD as exc:
                rejected.append(exc)
        return FlushReport(receipts=tuple(receipts), rejected=tuple(rejected))

    def _send(
        self, update: PendingUpdate, data: UpdateData | Path, *, announced: tuple[str, ...] = ()
    ) -> tuple[UpdateReceipt, int]:
        is_binary = Capability.UPDATES_BINARY in announced or Capability.UPDATES_BINARY in self._capabilities
        try:
            receipt, num_bytes = (self._send_binary if is_binary else self._send_legacy)(update, data)
        except _REFUSED_FOR_GOOD as exc:
            self._outbox.refuse(update, reason=str(exc))
            raise
        self._outbox.remove(update)
        return receipt, num_bytes

    def _send_binary(self, update: PendingUpdate, data: UpdateData | Path) -> tuple[UpdateReceipt, int]:
        receipt = self._transport.call(
            "POST",
            endpoint("/training/rounds/{}/updates", update.header.round_id),
            UpdateReceipt,
            body=_body_of(data),
            headers={"Content-Digest": f"sha-256=:{base64.b64encode(update.sha256).decode()}:"},
            idempotency_key=update.idempotency_key,
        )
        return receipt, update.num_bytes

    def _send_legacy(self, update: PendingUpdate, data: UpdateData | Path) -> tuple[UpdateReceipt, int]:
        header = update.header
        content = bytes(data) if isinstance(data, StreamedUpdate) else data
        saved = base64.b64encode(dumps_state_dict(read_arrays(content))).decode()
        body = WeightsUpload(
            model_id=header.model_id,
            version=header.base_version,
            device_id=header.device_id,
            sample_count=header.sample_count,
            metrics=header.metrics,
            update_format="delta",
            weights_data=saved,
            round_id=header.round_id,
        )
        receipt = self._transport.call(
            "POST",
            "/training/weights",
            UpdateReceipt,
            body=body,
            idempotency_key=update.idempotency_key,
        )
        return receipt, len(saved)


def _body_of(data: UpdateData | Path) -> Body:
    if isinstance(data, StreamedUpdate):
        return data
    if isinstance(data, Path):
        return FileBody(data, content_type=UPDATE_CONTENT_TYPE)
    return BytesBody(data, content_type=UPDATE_CONTENT_TYPE)
