"""The figures over all devices."""

from __future__ import annotations

import pytest

from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.federation_history import DeviceRecord, FederationHistory, FederationRound

TRAINED = RoundRecord(
    round_id="r",
    model_id="m",
    base_version="1",
    strategy="ditto",
    sample_count=60,
    num_bytes_sent=10,
    num_bytes_received=20,
)


def _round(number: int = 1) -> FederationRound:
    devices = (
        DeviceRecord(
            device="a", training=TRAINED, global_metrics={"acc": 0.5}, personal_metrics={"acc": 0.75}
        ),
        DeviceRecord(
            device="b", training=TRAINED, global_metrics={"acc": 0.75}, personal_metrics={"acc": 0.75}
        ),
        DeviceRecord(device="c", global_metrics={"acc": 1.0}),
    )
    return FederationRound(round_number=number, version="2", duration_s=0.5, devices=devices)


def test_bytes_and_participants_are_those_of_the_devices_that_trained() -> None:
    round_ = _round()

    assert round_.participants == ("a", "b")
    assert (round_.num_bytes_sent, round_.num_bytes_received) == (20, 40)


def test_a_round_reads_as_one_line() -> None:
    """Spreads: sqrt(1/24) = 0.204 as computed below, and 0 of two equal figures. Sent: 2 x 10 bytes."""
    assert str(_round(3)) == (
        "round 3: version 2, 2 of 3 devices trained, sent 0.0 kB, 0.5 s; "
        "global acc 0.75 (spread 0.2), personal acc 0.75 (spread 0)"
    )


def test_a_round_without_figures_says_so() -> None:
    round_ = FederationRound(round_number=1, version="1", duration_s=0, devices=(DeviceRecord(device="a"),))

    assert str(round_).endswith("0 of 1 device trained, sent 0.0 kB, 0.0 s; nothing measured")


def test_every_device_counts_once_in_the_mean_and_the_spread() -> None:
    """Mean of 0.5, 0.75, 1: 0.75. Deviations -1/4, 0, 1/4: the variance is (1/16 + 1/16) / 3 = 1/24."""
    round_ = _round()

    assert round_.mean("acc", of="global") == 0.75
    assert round_.spread("acc", of="global") == pytest.approx((1 / 24) ** 0.5)


def test_devices_without_a_figure_are_left_out() -> None:
    round_ = _round()

    assert round_.per_device("acc", of="personal") == {"a": 0.75, "b": 0.75}
    assert round_.spread("acc", of="personal") == 0.0
    assert round_.mean("loss", of="global") is None
    assert round_.spread("loss", of="global") is None


def test_the_frame_has_a_line_for_each_round_and_device() -> None:
    history = FederationHistory([_round(1), _round(2)], strategy="ditto", seed=7)

    frame = history.to_frame()

    assert len(frame) == 6
    assert frame.loc[(2, "b"), "personal/acc"] == 0.75
    assert frame.loc[1, "participated"].tolist() == [True, True, False]
    assert history[-1].round_number == 2
    assert len(history[:1]) == len(history) - 1
    assert repr(history) == "FederationHistory(ditto, 2 rounds, seed=7)"
