"""The bar of rounds fits the bars of the trainer."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from edgeml_lightning.callbacks.round_record import RoundRecord
from edgeml_lightning.trainer.progress import RoundsProgress, round_summary

RECORD = RoundRecord(
    round_id="r-1",
    model_id="digits",
    base_version="1",
    strategy="ditto",
    received_metrics={"val_loss": 0.4, "val_acc": 0.91234},
    personal_metrics={"val_loss": 0.25},
)


def _shown(capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1, **options)
    with RoundsProgress(trainer, num_rounds=4) as progress:
        progress.advance(RECORD)
    captured = capsys.readouterr()
    return captured.out


def test_beside_tqdm_bars_there_is_one_more(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, callbacks=[TQDMProgressBar()])

    assert "Rounds:  25%" in shown
    assert "received val_acc=0.912, personal val_loss=0.25" in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_beside_another_bar_there_is_a_line_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, callbacks=[RichProgressBar()])

    assert shown.strip() == "Round 1 of 4: received val_acc 0.912, personal val_loss 0.25"


def test_without_a_bar_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert _shown(capsys, enable_progress_bar=False) == ""


def test_a_bar_that_is_switched_off_stays_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert _shown(capsys, callbacks=[TQDMProgressBar(refresh_rate=0)]) == ""


def test_a_figure_that_is_no_loss_is_the_headline() -> None:
    assert round_summary(RECORD) == {"received val_acc": "0.912", "personal val_loss": "0.25"}
