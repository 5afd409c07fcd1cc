"""What a trainer of many rounds hands on, it hands on in two processes as in one, and over restarts."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from edgeml_server import EmbeddedServer
from tests.lightning.distributed.conftest import Organization
from tests.lightning.distributed.launch import values_of
from tests.lightning.distributed.many_rounds_scenarios import LOCAL_STEPS, NUM_SAMPLES, Habit, Sitting, sit
from tests.lightning.distributed.scenarios import Kind, Net, Seat, furthest, samples, whole_state

NUM_ROUNDS = 3
AT_ONE_SITTING = [NUM_ROUNDS]
OVER_RESTARTS = [1, 1, 1]


@pytest.mark.parametrize(
    ("kind", "sittings", "is_checked"),
    [
        pytest.param("ddp", AT_ONE_SITTING, False, id="ddp at one sitting"),
        pytest.param("ddp", OVER_RESTARTS, False, id="ddp over restarts"),
        pytest.param("fsdp2", AT_ONE_SITTING, False, id="fsdp2 at one sitting"),
        pytest.param("fsdp2", OVER_RESTARTS, False, id="fsdp2 over restarts"),
        pytest.param("fsdp2", OVER_RESTARTS, True, id="fsdp2 over restarts with a sanity check"),
    ],
)
def test_local_steps_and_kept_optimizers_are_those_of_one_process(
    control_plane: EmbeddedServer, tmp_path: Path, kind: Kind, sittings: list[int], *, is_checked: bool
) -> None:
    """Adam remembers its moments, the learning rate falls at every step, and the data goes on.

    A pass is three batches of sixteen samples, a round two steps: the steps read batches 0 1 | 2 0 | 1 2. A
    ``DistributedSampler`` deals the unshuffled samples in turn, so two processes have the same sixteen in
    each step that one has.
    """
    alone, together = (Organization(control_plane, tmp_path / name) for name in ("alone", "together"))
    for organization in (alone, together):
        organization.open_stepped_rounds(NUM_ROUNDS)

    expected = sit(0, alone.seat(), Habit("alone", is_checked=is_checked), NUM_ROUNDS)
    first, second = joined(together.seat(), Habit(kind, is_checked=is_checked), sittings)

    order = samples(NUM_SAMPLES).tensors[0][:, 0].tolist()
    batches = [sorted(order[start : start + 16]) for start in (0, 16, 32)]
    assert both(first, second) == [batches[i] for i in (0, 1, 2, 0, 1, 2)]
    assert first.rates == second.rates == expected.rates == pytest.approx([0.02 * 0.8**i for i in range(6)])
    assert [record.update_status for record in first.records] == ["accepted"] * NUM_ROUNDS
    assert [record.num_steps for record in first.records] == [LOCAL_STEPS] * NUM_ROUNDS
    assert [record.sample_count for record in first.records] == [32] * NUM_ROUNDS
    assert second.records == first.records
    one, other = (organization.newest(["stepped"])["stepped"] for organization in (alone, together))
    assert furthest(one, other) < 1e-6
    assert furthest(one, whole_state(Net())) > 0.01


def test_shuffled_data_goes_on_over_rounds_and_restarts(
    control_plane: EmbeddedServer, tmp_path: Path
) -> None:
    """Two passes in six steps: each has every sample once, in its own order, wherever a restart falls."""
    habit, sat = Habit("ddp", shuffle=True), []
    for name, sittings in (("sitting", AT_ONE_SITTING), ("restarted", OVER_RESTARTS)):
        organization = Organization(control_plane, tmp_path / name)
        organization.open_stepped_rounds(NUM_ROUNDS)
        sat.append(joined(organization.seat(), habit, sittings))

    (first, second), restarted = sat
    order = samples(NUM_SAMPLES).tensors[0][:, 0].tolist()
    steps = both(first, second)
    assert sorted(chain(*steps[:3])) == sorted(chain(*steps[3:])) == sorted(order)
    assert steps[:3] != steps[3:]
    assert len(set(first.draws)) == NUM_ROUNDS * LOCAL_STEPS
    assert [(each.steps, each.draws) for each in restarted] == [
        (first.steps, first.draws),
        (second.steps, second.draws),
    ]


def test_a_device_may_go_on_with_another_number_of_processes(
    control_plane: EmbeddedServer, tmp_path: Path
) -> None:
    """What rounds hand on is the device's; only random streams and a place in the data are a process's own.

    The second process finds nothing of its own in the second round, and in the fourth what is two rounds old:
    in both its place in the data is the first's. A pass is three batches, a round two of them.
    """
    alone, changing = (Organization(control_plane, tmp_path / name) for name in ("alone", "changing"))
    for organization in (alone, changing):
        organization.open_stepped_rounds(4)
    seat, rates, steps = changing.seat(), [], []
    expected = sit(0, alone.seat(), Habit("alone"), 4)

    for kind in ("alone", "ddp", "alone", "ddp"):
        sat = [sit(0, seat, Habit(kind), 1)] if kind == "alone" else values_of(sit, seat, Habit(kind), 1)
        rates += sat[0].rates
        steps += both(*sat) if kind == "ddp" else [sorted(step) for step in sat[0].steps]
        assert sat[-1].rates == sat[0].rates

    assert rates == expected.rates
    assert steps == [sorted(step) for step in expected.steps]
    one, other = (organization.newest(["stepped"])["stepped"] for organization in (alone, changing))
    assert furthest(one, other) < 1e-6


def joined(seat: Seat, habit: Habit, sittings: list[int]) -> list[Sitting]:
    """Play sittings of so many rounds, two new processes for each; return what each of the two did."""
    sat = [values_of(sit, seat, habit, num_rounds) for num_rounds in sittings]
    return [
        Sitting(
            [record for sitting in of_rank for record in sitting.records],
            [step for sitting in of_rank for step in sitting.steps],
            [rate for sitting in of_rank for rate in sitting.rates],
            [draw for sitting in of_rank for draw in sitting.draws],
        )
        for of_rank in zip(*sat, strict=True)
    ]


def both(first: Sitting, second: Sitting) -> list[list[float]]:
    """Return the samples that two processes read together in each step, in ascending order."""
    return [sorted(mine + others) for mine, others in zip(first.steps, second.steps, strict=True)]
