"""What the quickstart prints, draws and writes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from quickstart_picture import draw
from quickstart_report import Curve, comparison_line, curves_of, device_table, round_line, to_json
from rich.console import Console

from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.federation_history import DeviceRecord, FederationHistory, FederationRound

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _history(
    strategy: str, *, shared: tuple[float, float], personal: tuple[float, float] | None
) -> FederationHistory:
    trained = RoundRecord(
        round_id="r",
        model_id="m",
        base_version="1",
        strategy=strategy,
        num_bytes_sent=2_000,
        num_bytes_received=3_000,
    )
    devices = tuple(
        DeviceRecord(
            device=name,
            training=trained,
            global_metrics={"test_acc": shared[index]},
            personal_metrics={"test_acc": personal[index]} if personal else {},
        )
        for index, name in enumerate(("device-00", "device-01"))
    )
    rounds = [
        FederationRound(round_number=number, version=str(number + 1), duration_s=1.26, devices=devices)
        for number in (1, 2)
    ]
    return FederationHistory(rounds, strategy=strategy, seed=3)


FEDAVG = _history("fedavg", shared=(0.5, 0.75), personal=None)
DITTO = _history("ditto", shared=(0.5, 0.75), personal=(1.0, 0.75))


def _curves() -> list[Curve]:
    return [*curves_of(FEDAVG), *curves_of(DITTO)]


def test_there_is_a_curve_for_each_model_that_was_measured() -> None:
    assert [curve.label for curve in _curves()] == ["FedAvg global", "Ditto global", "Ditto personal"]


def test_a_round_is_one_line_with_both_directions_summed_over_devices() -> None:
    """Two devices: 2 x 2,000 bytes up and 2 x 3,000 bytes down; the means are 62.5 % and 87.5 %."""
    line = round_line("ditto", DITTO[0], num_rounds=2)

    assert " ".join(line.split()) == ("Ditto 1/2 2 devices global 62.5% personal 87.5% up 4 down 6 kB 1.3 s")


def test_a_strategy_without_personal_models_shows_a_dash() -> None:
    assert "personal      -" in round_line("fedavg", FEDAVG[0], num_rounds=2)


def test_the_comparison_is_between_personal_models_and_the_global_model_of_fedavg() -> None:
    """87.5 % - 62.5 % = 25 points; both spreads are 12.5 points."""
    line = comparison_line(_curves())

    assert line is not None
    assert "+25.0 points" in line
    assert "spread 12.5 instead of 12.5 points" in line
    assert comparison_line(curves_of(FEDAVG)) is None


def test_the_table_has_a_line_a_device_the_mean_and_the_spread() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(device_table(_curves(), labels={"device-00": (1, 2), "device-01": (7,)}))

    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines()]

    assert ["device-00", "1", "2", "50.0%", "50.0%", "100.0%"] in lines
    assert ["device-01", "7", "75.0%", "75.0%", "75.0%"] in lines
    assert ["mean", "62.5%", "62.5%", "87.5%"] in lines
    assert ["spread", "in", "points", "12.5", "12.5", "12.5"] in lines


def test_the_json_holds_the_very_figures_of_the_curves() -> None:
    written = json.loads(json.dumps(to_json(_curves(), [FEDAVG, DITTO])))

    assert written["curves"][2]["mean"] == [0.875, 0.875]
    assert written["curves"][0]["devices"][1] == {"device-00": 0.5, "device-01": 0.75}
    assert written["rounds"]["ditto"][0]["num_bytes_sent"] == 4_000


@pytest.mark.parametrize("histories", [[FEDAVG], [FEDAVG, DITTO]], ids=["one model", "three models"])
def test_a_picture_is_drawn_of_any_number_of_models(
    tmp_path: Path, histories: list[FederationHistory]
) -> None:
    path = tmp_path / "picture.png"

    draw([curve for history in histories for curve in curves_of(history)], path, title="A title")

    assert path.read_bytes().startswith(PNG_SIGNATURE)
