"""Which process goes on from where another one ended, and which one stays where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeml_lightning.callbacks.kept_marks import KeptMarks
from edgeml_lightning.callbacks.round_streams import RoundStreams
from edgeml_lightning.distributed import LocalRanks
from edgeml_lightning.personalization import Mark, PersonalKey, PersonalStore, RoundMarks
from edgeml_lightning.randomness import capture_randomness
from tests.lightning.federation import trainer

KEY = PersonalKey(org_id="clinic", device="mri-3", model_id="digits", strategy="fedavg")
SEED = 7


def moment(*, draws: int) -> Mark:
    """Return where the streams stand after some numbers were drawn from a new seed."""
    torch.manual_seed(SEED)
    torch.rand(draws)
    return Mark(capture_randomness())


def begin(store: PersonalStore, round_id: str, *, process: str) -> float:
    """Begin a round as a process does that was just seeded; return the first number it draws."""
    torch.manual_seed(SEED)
    streams = RoundStreams(process=process)
    streams.begin(trainer(), LocalRanks(), kept=KeptMarks(store, KEY), round_id=round_id)
    return float(torch.rand(()))


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (["r-2"], 2),  # it goes on for the process that ended round 1
        (["r-1"], 1),  # the same round, from its beginning
        (["r-1", "r-2"], 0),  # it has begun a round itself: it stands where it should
    ],
)
def test_only_a_process_that_begins_its_first_round_goes_on_for_an_earlier_one(
    tmp_path: Path, *, begun: list[str], expected: int
) -> None:
    """An earlier process began round 1 after one number, and ended it after two."""
    store = PersonalStore(tmp_path)
    store.save_marks(KEY, RoundMarks("r-1", SEED, "earlier", moment(draws=1), moment(draws=2)))
    torch.manual_seed(SEED)
    numbers = torch.rand(3).tolist()

    drawn = [begin(store, round_id, process="later") for round_id in begun]

    assert drawn[-1] == numbers[expected]


def test_a_round_that_begins_again_still_remembers_where_it_ended(tmp_path: Path) -> None:
    """Should the second process be killed too, the third one goes on from there."""
    store = PersonalStore(tmp_path)
    store.save_marks(KEY, RoundMarks("r-1", SEED, "first", moment(draws=1), moment(draws=2)))
    torch.manual_seed(SEED)
    numbers = torch.rand(3).tolist()

    begin(store, "r-1", process="second")

    assert begin(store, "r-2", process="third") == numbers[2]
