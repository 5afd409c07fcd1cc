"""A device takes the steps of a round in order, and each of them says what comes next."""

import pytest

from edgeml_client.errors import RoundStateError
from edgeml_client.rounds import RoundProgress, RoundStep
from edgeml_client.rounds.progress import NEXT_STEPS


def test_a_round_goes_from_assigned_to_submitted() -> None:
    progress = RoundProgress("r-1")

    for step in (RoundStep.DOWNLOADED, RoundStep.TRAINED, RoundStep.SUBMITTED):
        progress = progress.advance(step)

    assert progress == RoundProgress("r-1", RoundStep.SUBMITTED)


@pytest.mark.parametrize("current", RoundStep)
@pytest.mark.parametrize("wanted", RoundStep)
def test_every_step_out_of_order_is_refused(current: RoundStep, wanted: RoundStep) -> None:
    allowed = {
        ("assigned", "downloaded"),
        ("downloaded", "downloaded"),
        ("downloaded", "trained"),
        ("trained", "submitted"),
    }
    progress = RoundProgress("r-1", current)

    if (current, wanted) in allowed:
        assert progress.advance(wanted).step is wanted
    else:
        with pytest.raises(RoundStateError, match=rf"'r-1' is {current} and cannot become {wanted}: \w+"):
            progress.advance(wanted)


def test_every_step_has_its_row() -> None:
    assert set(NEXT_STEPS) == set(RoundStep)
