"""Two processes come to what one comes to, given the same samples in each step."""

from __future__ import annotations

import pytest

from tests.lightning.distributed.conftest import PLAYED, Comparisons
from tests.lightning.distributed.scenarios import CASES, Kind, furthest, whole_state

ALL = [(kind, name) for kind, names in PLAYED.items() for name in names]
PERSONAL = [(kind, name) for kind, name in ALL if CASES[name].num_rounds > 1 and CASES[name].is_personal]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_global_model_becomes_the_same(comparisons: Comparisons, kind: Kind, name: str) -> None:
    """With one device it is the received model plus the delta, so equal models mean equal deltas.

    In bf16 a batch of eight and one of sixteen round differently: 2**-8 of an update of order 0.1.
    """
    comparison = comparisons.of(kind)

    received = whole_state(CASES[name].make())
    alone, together = comparison.global_alone[name], comparison.global_together[name]
    assert furthest(alone, together) < (1e-3 if "bf16" in name else 1e-6)
    of_the_model = {key: array for key, array in alone.items() if key in received}
    assert furthest(of_the_model, {key: received[key] for key in of_the_model}) > 0.01


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_round_has_one_update_of_all_samples(comparisons: Comparisons, kind: Kind, name: str) -> None:
    """16 samples in batches of 2 x 8, two epochs: two steps. Every process tells of the same one upload."""
    comparison = comparisons.of(kind)

    records = comparison.first[name].records
    assert [record.update_status for record in records] == ["accepted"] * CASES[name].num_rounds
    assert [record.sample_count for record in records] == [16] * CASES[name].num_rounds
    assert [record.num_steps for record in records] == [2] * CASES[name].num_rounds
    assert comparison.second[name].records == records


@pytest.mark.parametrize(("kind", "name"), PERSONAL)
def test_the_personal_model_becomes_the_same_in_every_process(
    comparisons: Comparisons, kind: Kind, name: str
) -> None:
    """Over two rounds, so that what was kept, and its momentum, came back in every process."""
    comparison = comparisons.of(kind)

    assert furthest(comparison.first[name].personal, comparison.second[name].personal) == 0
    assert furthest(comparison.first[name].personal, comparison.alone[name].personal) < 1e-6


@pytest.mark.parametrize("kind", PLAYED)
def test_losses_that_the_module_reduces_are_those_of_all_samples(
    comparisons: Comparisons, kind: Kind
) -> None:
    comparison = comparisons.of(kind)

    alone, together = (
        side["fedavg"].records[0].local_metrics for side in (comparison.alone, comparison.first)
    )
    assert together["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-6)
