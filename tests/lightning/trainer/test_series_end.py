"""When a device may stop waiting for the next round."""

from __future__ import annotations

import pytest

from edgeml_client.schemas.rounds import RoundAssignment, RoundStatus
from edgeml_lightning.trainer.series_end import end_reason, is_last, newest_round


def _status(number: int, *, of: int | None = 3, state: str = "completed", **facts: object) -> RoundStatus:
    return RoundStatus.model_validate(
        {"round_id": f"r-{number}", "round_number": number, "num_rounds": of, "state": state, **facts}
    )


def test_the_newest_round_is_found_along_the_series() -> None:
    series = {
        "r-1": _status(1, next_round_id="r-2"),
        "r-2": _status(2, next_round_id="r-3"),
        "r-3": _status(3, state="training"),
    }

    assert newest_round("r-1", get_status=series.__getitem__) == series["r-3"]


def test_a_series_that_runs_in_a_circle_is_left() -> None:
    circle = {"r-1": _status(1, next_round_id="r-2"), "r-2": _status(2, next_round_id="r-1")}

    assert newest_round("r-1", get_status=circle.__getitem__).round_id == "r-2"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (_status(3), "the federation is over: this was the last of its 3 rounds"),
        (_status(1, of=1), "the federation is over: this was the only round it had"),
        (
            _status(2, state="abandoned", reason="an operator cancelled it"),
            "the federation ended in round 2 of 3: an operator cancelled it",
        ),
        (_status(3, state="abandoned"), "the federation ended in round 3 of 3: it was abandoned"),
    ],
)
def test_a_series_is_over_after_its_last_round_and_when_it_is_cancelled(
    status: RoundStatus, reason: str
) -> None:
    assert end_reason(status) == reason


@pytest.mark.parametrize(
    "status",
    [
        _status(3, state="training"),
        _status(3, state="aggregating"),
        _status(2),
        _status(2, state="abandoned", next_round_id="r-3"),
        _status(3, of=None),
    ],
    ids=[
        "training",
        "aggregating",
        "more to come",
        "abandoned, but another follows",
        "a server that does not say",
    ],
)
def test_otherwise_another_round_may_follow(status: RoundStatus) -> None:
    assert end_reason(status) is None


@pytest.mark.parametrize(("number", "of", "expected"), [(3, 3, True), (2, 3, False), (None, None, False)])
def test_an_assignment_says_whether_it_is_the_last(
    number: int | None, of: int | None, *, expected: bool
) -> None:
    assignment = RoundAssignment(
        round_id="r", model_id="m", version="1", state="training", round_number=number, num_rounds=of
    )

    assert is_last(assignment) is expected
