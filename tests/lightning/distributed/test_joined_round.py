"""What another process knows of a round, and what it may not do."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from edgeml_lightning import FedProx
from edgeml_lightning.callbacks.joined_round import JoinedRound
from edgeml_lightning.errors import FederationError
from tests.lightning.distributed.conftest import Organization


def test_a_copy_of_a_round_has_no_connection(organization: Organization, tmp_path: Path) -> None:
    """It knows all else. Copying goes by the protocol by which a process sends an object to another."""
    organization.open_rounds("fedprox")
    with organization.seat().client() as client:
        assignment = client.get_round_assignment(model="fedprox")
        assert assignment is not None
        joined = JoinedRound.of(assignment, FedProx(0.5), client.join_round(assignment))

        sent = copy.copy(joined)

        assert (sent.assignment, sent.strategy, sent.base) == (assignment, FedProx(0.5), joined.base)
        assert joined.base.version == "1"
        assert joined.num_bytes_received > 0
        with pytest.raises(FederationError, match="only the first process"):
            _ = sent.num_bytes_received
