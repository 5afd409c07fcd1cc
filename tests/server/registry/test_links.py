"""A signed link allows one file for a while, and nothing else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from edgeml_server.errors import ForbiddenError
from edgeml_server.registry.links import FileClaim, _signature, open_ticket, sign_ticket

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CLAIM = FileClaim(
    org_id="clinic-a",
    model_id="mdl_1",
    version="1",
    format="onnx",
    expires_at_s=int((NOW + timedelta(minutes=5)).timestamp()),
)
TICKET = sign_ticket(CLAIM, key=b"key")


def test_a_ticket_opens_until_it_expires() -> None:
    assert open_ticket(TICKET, key=b"key", now=NOW) == CLAIM
    with pytest.raises(ForbiddenError, match="expired"):
        open_ticket(TICKET, key=b"key", now=NOW + timedelta(minutes=5))


@pytest.mark.parametrize(
    "ticket", ["", ".", "x", TICKET[:-1], TICKET + "0", "A" + TICKET[1:], TICKET.replace(".", ""), "ä.ä"]
)
def test_a_ticket_that_was_changed_does_not_open(ticket: str) -> None:
    with pytest.raises(ForbiddenError, match="not one of ours"):
        open_ticket(ticket, key=b"key", now=NOW)


def test_another_control_planes_ticket_does_not_open() -> None:
    with pytest.raises(ForbiddenError, match="not one of ours"):
        open_ticket(sign_ticket(CLAIM, key=b"other"), key=b"key", now=NOW)


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff"])
def test_a_ticket_of_another_form_asks_for_a_new_one(content: bytes) -> None:
    body = base64.urlsafe_b64encode(content).decode().rstrip("=")

    with pytest.raises(ForbiddenError, match="ask for a new one"):
        open_ticket(f"{body}.{_signature(body, b'key')}", key=b"key", now=NOW)
