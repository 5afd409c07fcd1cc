"""What a device remembers of its rounds."""

from __future__ import annotations

import subprocess
import sys

from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.history import History


def _record(number: int, **facts: object) -> RoundRecord:
    return RoundRecord(
        round_id=f"r-{number}",
        model_id="digits",
        base_version=str(number),
        strategy="ditto",
        round_number=number,
        **facts,
    )


def test_a_history_is_a_sequence_of_records() -> None:
    history = History([_record(1), _record(2)], end_reason="the federation ended")

    assert [record.round_number for record in history] == [1, 2]
    assert history[-1].round_id == "r-2"
    assert history[:1] == (_record(1),)
    assert repr(history) == "History(2 rounds, end_reason='the federation ended')"


def test_the_frame_has_a_line_a_round_and_a_column_a_metric() -> None:
    history = History(
        [
            _record(1, received_metrics={"val_acc": 0.1}, local_metrics={"loss": 2.0}),
            _record(2, received_metrics={"val_acc": 0.5}, personal_metrics={"val_acc": 0.75}),
        ]
    )

    frame = history.to_frame()

    assert frame.index.tolist() == [1, 2]
    assert frame["received/val_acc"].tolist() == [0.1, 0.5]
    assert frame.loc[2, "personal/val_acc"] == 0.75
    assert frame["local/loss"].isna().tolist() == [False, True]
    assert frame["base_version"].tolist() == ["1", "2"]


def test_a_history_without_rounds_is_an_empty_frame() -> None:
    assert History().to_frame().empty


def test_without_pandas_the_error_names_the_command() -> None:
    """A subprocess in which pandas cannot be imported."""
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "from edgeml_lightning.history import History\n"
        "try:\n    History().to_frame()\n"
        "except ImportError as error:\n    print(error)\n"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "pip install 'edgeml-lightning[all]'" in answer.stdout
