"""Updates on the wire: the binary file of a round, and the legacy form."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from edgeml_client.schemas import UpdateReceipt, WeightsUpload
from edgeml_client.updates.update_file import UPDATE_CONTENT_TYPE
from edgeml_server._http.dependencies import DeviceCaller, Plane
from edgeml_server._http.limits import drain_body
from edgeml_server.auth.principal import Principal
from edgeml_server.blobs import BlobWriter
from edgeml_server.devices.service import acting_device
from edgeml_server.errors import (
    AbsentError,
    BadRequestError,
    ControlPlaneError,
    UnsupportedFormatError,
)
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.acceptance import Verdict
from edgeml_server.rounds.intake import Admission, Receipt, Sender, accept, admit
from edgeml_server.rounds.legacy_intake import take_in_weights
from edgeml_server.rounds.receiving import named_sha256, parse_json, receive_into
from edgeml_server.rounds.update_checks import check_update

__all__ = ["router"]

router = APIRouter(prefix="/training", tags=["updates"])

_ACCEPTED_TYPES = frozenset({UPDATE_CONTENT_TYPE, "application/octet-stream"})


@router.post("/rounds/{round_id}/updates", status_code=201)
async def send_update(
    round_id: str,
    request: Request,
    response: Response,
    plane: Plane,
    caller: DeviceCaller,
    *,
    content_type: Annotated[str, Header()] = UPDATE_CONTENT_TYPE,
    content_digest: Annotated[str | None, Header()] = None,
) -> UpdateReceipt:
    """Take in the update file of a round; it streams to the blob store and is checked there.

    One update of each device counts: 201 says that this one does, 200 that it did already. No
    ``Idempotency-Key`` is needed, because round and device are one.
    """
    try:
        if content_type.partition(";")[0].strip().lower() not in _ACCEPTED_TYPES:
            raise UnsupportedFormatError(
                f"an update is sent as {UPDATE_CONTENT_TYPE}, not {content_type[:80]!r}; "
                "the legacy form goes to POST /training/weights"
            )
        expected_digest = named_sha256(content_digest)
        sender = _sender(caller)
        admission = await run_in_threadpool(admit, plane, sender, round_id)
    except ControlPlaneError:
        await drain_body(request.receive)
        raise
    writer = await run_in_threadpool(plane.blobs.writer)
    try:
        await receive_into(
            writer,
            request,
            max_bytes=admission.max_bytes,
            silence_s=plane.settings.body_silence_s,
        )
        receipt = await run_in_threadpool(
            _take_in, plane, sender, admission, writer, expected_digest=expected_digest
        )
    finally:
        await run_in_threadpool(writer.discard)
    return _answer(receipt, response)


def _take_in(
    plane: ControlPlane,
    sender: Sender,
    admission: Admission,
    writer: BlobWriter,
    *,
    expected_digest: str | None,
) -> Receipt:
    """Check what was received, then keep it, then count it."""
    if expected_digest is not None and writer.digest != expected_digest:
        raise BadRequestError(
            f"the body received has digest {writer.digest}, but Content-Digest says {expected_digest}; "
            "it was damaged or cut short on the way: send it again"
        )
    record = admission.record
    checked = plane.checks.submit(
        check_update, writer.peek(), admission.layout, record, device_id=sender.device_id
    ).result()
    blob = writer.commit()
    return accept(plane, sender, record.id, checked, digest=blob.digest, blob=blob)


@router.post("/weights", status_code=201)
async def send_weights(
    request: Request, response: Response, plane: Plane, caller: DeviceCaller
) -> UpdateReceipt:
    """Take in an update of the legacy form: base64 of a torch-saved state dict in JSON."""
    # The body may be large: it is read only now, after the caller was identified.
    body = await request.body()
    receipt = await run_in_threadpool(_take_in_weights, plane, caller, body)
    return _answer(receipt, response)


def _take_in_weights(plane: ControlPlane, caller: Principal, body: bytes) -> Receipt:
    upload = parse_json(WeightsUpload, body)
    with plane.database.snapshot() as session:
        device = acting_device(session, caller, upload.device_id)
    sender = Sender(caller.org_id, device.id, device.device_identifier or "")
    return take_in_weights(plane, sender, upload)


def _sender(caller: Principal) -> Sender:
    if caller.device_id is None or caller.device_identifier is None:
        raise AbsentError("updates come from registered devices; POST /devices/register with its token first")
    return Sender(caller.org_id, caller.device_id, caller.device_identifier)


def _answer(receipt: Receipt, response: Response) -> UpdateReceipt:
    response.status_code = 200 if receipt.verdict is Verdict.DUPLICATE else 201
    return UpdateReceipt(update_id=receipt.update_id, status=receipt.verdict.value)
