"""What a device remembers of its rounds."""

from __future__ import annotations

import subprocess
import sys

from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.trainer.history import History


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
    assert repr(History([_record(1)])) == "History(1 round)"


def test_a_record_reads_as_one_line() -> None:
    record = _record(
        2,
        num_rounds=5,
        num_steps=12,
        sample_count=120,
        num_bytes_sent=4_560,
        duration_s=1.26,
        update_status="accepted",
        received_metrics={"val_loss": 0.5, "val_acc": 0.9123},
        personal_metrics={"val_loss": 0.25},
    )

    assert str(record) == (
        "round 2 of 5 (ditto): 12 steps on 120 samples, sent 4.6 kB, 1.3 s, accepted; "
        "received val_acc 0.912, personal val_loss 0.25"
    )


def test_a_record_of_little_says_so() -> None:
    """Older control planes do not number their rounds."""
    record = RoundRecord(round_id="r-7", model_id="digits", base_version="1", strategy="fedavg")

    assert str(record) == (
        "r-7 (fedavg): 0 steps on 0 samples, sent 0.0 kB, 0.0 s, nothing uploaded; nothing measured"
    )


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
        "from edgeml_lightning.trainer.history import History\n"
        "try:\n    History().to_frame()\n"
        "except ImportError as error:\n    print(error)\n"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "pip install 'edgeml-lightning[all]'" in answer.stdout
