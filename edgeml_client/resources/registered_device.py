"""A device as the control plane knows it, and the folder in which it keeps what must survive a restart."""

from __future__ import annotations

import logging
import platform as host
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import platformdirs

from edgeml_client._transport.http import HttpTransport
from edgeml_client._version import __version__
from edgeml_client.errors import EdgeMLClientError
from edgeml_client.resources.capabilities import Capabilities
from edgeml_client.resources.update_sender import UpdateSender
from edgeml_client.schemas import Device, DeviceRegistration
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.outbox import Outbox
from edgeml_client.updates.paths import path_segment

__all__ = ["RegisteredDevice"]

_LOG = logging.getLogger(__name__)
_APP_NAME: Final = "edgeml"


class RegisteredDevice:
    """Registers a device once, and knows its outbox; usable from several threads.

    Args:
        transport: Sends the requests.
        capabilities: Decides in which form updates are sent.
        org_id: The organization.
        identifier: A name of this device.
        platform: What kind of device this is.
        state_dir: Where devices keep their folders; by default in the user's state folder.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        capabilities: Capabilities,
        org_id: str,
        identifier: str,
        platform: str,
        state_dir: Path | None,
    ) -> None:
        self._transport = transport
        self._capabilities = capabilities
        self._org_id = org_id
        self._identifier = identifier
        self._platform = platform
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self.known_id: str | None = None

    def register(self, feature_schema: Sequence[str] | None = None) -> str:
        """Return the id of this device; at the first call register it, and send what waits."""
        with self._lock:
            if self.known_id is None:
                self.known_id = self._register(feature_schema)
                self._send_what_waits(self.known_id)
            return self.known_id

    def register_and_send(self) -> str:
        """Return the id of this device, and send what waits, at every call."""
        device_id = self.known_id
        if device_id is None:
            return self.register()
        self._send_what_waits(device_id)
        return device_id

    def folder(self) -> Path:
        """Return the folder of this device, named after its id; it is not made here."""
        return self._folder_of(self.register())

    def sender(self) -> UpdateSender:
        """Return what sends this device's updates."""
        return self._sender_of(self.register())

    def _register(self, feature_schema: Sequence[str] | None) -> str:
        body = DeviceRegistration(
            device_identifier=self._identifier,
            org_id=self._org_id,
            platform=self._platform,
            os_version=host.platform(terse=True),
            sdk_version=__version__,
            metadata={"client": "edgeml-lightning"},
            capabilities={"training": True},
            feature_schema=None if feature_schema is None else tuple(feature_schema),
        )
        return self._transport.call("POST", "/devices/register", Device, body=body).id

    def _folder_of(self, device_id: str) -> Path:
        if self._state_dir is not None:
            return self._state_dir / path_segment(device_id)
        base = Path(platformdirs.user_state_dir(_APP_NAME, appauthor=False))
        return base / path_segment(self._org_id) / path_segment(device_id)

    def _sender_of(self, device_id: str) -> UpdateSender:
        folder = self._folder_of(device_id)
        outbox = Outbox(folder / "outbox", residuals=ResidualStore(folder / "residuals"))
        return UpdateSender(self._transport, outbox=outbox, capabilities=self._capabilities)

    def _send_what_waits(self, device_id: str) -> None:
        try:
            report = self._sender_of(device_id).flush()
        except EdgeMLClientError as exc:
            _LOG.warning("updates of an earlier run keep waiting: %s", exc)
            return
        if report.receipts:
            _LOG.info("sent %d update(s) of an earlier run", len(report.receipts))
