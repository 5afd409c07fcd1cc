"""Rounds that do not go as planned, and many in a row, in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.lightning.distributed import script
from tests.lightning.distributed.conftest import Organization
from tests.lightning.distributed.launch import run_ranks, values_of
from tests.lightning.distributed.life_scenarios import (
    ddp_life,
    fit_two_epochs,
    fsdp2_life,
    lose_one_in_the_end,
)
from tests.lightning.distributed.scenarios import Net, furthest


def test_a_process_that_fails_ends_the_other_and_nothing_is_uploaded(organization: Organization) -> None:
    round_id = organization.open_rounds("fedavg")

    first, second = (outcome.value for outcome in run_ranks(lose_one_in_the_end, organization.seat()))

    assert second[:2] == ("LookupError", "the disk of process 1 is full")
    assert first[0] == "ProcessLostError"
    assert first[2] - second[2] < 5
    assert organization.plane.get_round(round_id).num_updates == 0


def test_rounds_under_ddp(organization: Organization) -> None:
    """The history, its end, and what cannot go on are the same in both processes."""
    organization.open_rounds("two rounds")
    organization.open_rounds("fedavg")

    first, second = values_of(ddp_life, organization.seat())

    assert [record.update_status for record in first["history"]] == ["accepted", "accepted"]
    assert [record.round_number for record in first["history"]] == [1, 2]
    assert "this was the last of its 2 rounds" in first["end"]
    assert (second["history"], second["end"]) == (first["history"], first["end"])
    assert first["nobody"][0] == second["nobody"][0] == "NoRoundAssignedError"
    assert abs(first["nobody"][2] - second["nobody"][2]) < 5
    assert first["uneven"][0] == "nothing"
    assert first["uneven record"].sample_count == 15


def test_rounds_under_fsdp2(organization: Organization, tmp_path: Path) -> None:
    """A round that went on from a checkpoint ends where an undisturbed one ends."""
    alone = Organization(organization.plane, tmp_path)
    for each in (organization, alone):
        each.open_rounds("fedavg")
        each.open_rounds("fedprox")

    fit_two_epochs("alone", alone.seat().client(), Net())
    first, second = values_of(fsdp2_life, organization.seat(), tmp_path / "checkpoints")

    for one in (first, second):
        assert one["ditto"][0] == "UnsupportedTrainingError"
        assert "shard both of its models in configure_model" in one["ditto"][1]
        assert one["stopped"][:2] == ("LookupError", "the power went")
        assert (one["record"].num_steps, one["record"].update_status) == (2, "accepted")
    assert furthest(alone.newest(["fedprox"])["fedprox"], organization.newest(["fedprox"])["fedprox"]) < 1e-6


def test_lightning_starts_the_second_process_itself(organization: Organization, tmp_path: Path) -> None:
    organization.open_rounds("two rounds")
    seat = organization.seat()

    environment = {name: value for name, value in os.environ.items() if name not in {"LOCAL_RANK", "RANK"}}
    subprocess.run(
        [sys.executable, script.__file__, seat.url, seat.org_id, seat.bootstrap_token, str(tmp_path)],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=100,
        capture_output=True,
    )

    told = [json.loads((tmp_path / f"process-{rank}.json").read_text()) for rank in range(2)]
    assert told == [[16, 16], [16, 16]]
