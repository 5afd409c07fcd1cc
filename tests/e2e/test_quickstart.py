"""The quickstart, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 300


def _run(*arguments: str, out: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    finished = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "quickstart.py"), "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=RUN_TIMEOUT_S,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """Run two rounds on four devices; return what was printed, the figures, and the folder."""
    out = tmp_path_factory.mktemp("quickstart")
    printed = _run("--rounds", "2", "--devices", "4", out=out)
    return printed, json.loads((out / "quickstart.json").read_text()), out


@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_there_is_a_line_a_round_of_each_federation(short_run: tuple[str, Any, Path]) -> None:
    printed, figures, _ = short_run

    for strategy, title in (("fedavg", "FedAvg"), ("ditto", "Ditto")):
        lines = [line for line in printed.splitlines() if re.match(rf"{title}\s+\d+/2", line)]
        for line, round_ in zip(lines, figures["rounds"][strategy], strict=True):
            assert f"{round_['round_number']}/2" in line
            assert f"up {round_['num_bytes_sent'] / 1e3:.0f} " in line
            assert f"down {round_['num_bytes_received'] / 1e3:.0f} kB" in line
            assert len(line) <= 80


@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_the_table_holds_the_figures_of_the_json(short_run: tuple[str, Any, Path]) -> None:
    printed, figures, _ = short_run
    rows = [line.replace("│", " ").split() for line in printed.splitlines() if "│" in line]

    assert [f"{curve['strategy']} {curve['kind']}" for curve in figures["curves"]] == [
        "fedavg global",
        "ditto global",
        "ditto personal",
    ]
    for name in (f"device-{index:02d}" for index in range(4)):
        row = next(row for row in rows if row[0] == name)
        assert row[-3:] == [f"{100 * curve['devices'][-1][name]:.1f}%" for curve in figures["curves"]]
    for title, unit in (("mean", "%"), ("spread", "")):
        row = next(row for row in rows if row[0] == title)
        assert row[-3:] == [f"{100 * curve[title][-1]:.1f}{unit}" for curve in figures["curves"]]


@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_the_picture_is_written(short_run: tuple[str, Any, Path]) -> None:
    _, _, out = short_run

    assert (out / "quickstart.png").stat().st_size > 10_000


@pytest.mark.timeout(RUN_TIMEOUT_S)
def test_the_same_seed_gives_the_same_figures(short_run: tuple[str, Any, Path], tmp_path: Path) -> None:
    """Ditto's first round in another process: its accuracies are those of the first run, to the last bit."""
    _, figures, _ = short_run

    _run("--rounds", "1", "--devices", "4", "--strategy", "ditto", out=tmp_path)

    again = json.loads((tmp_path / "quickstart.json").read_text())
    for curve, before in zip(again["curves"], figures["curves"][1:], strict=True):
        assert (curve["strategy"], curve["kind"]) == (before["strategy"], before["kind"])
        assert curve["devices"] == before["devices"][:1]


def test_help_offers_what_can_be_chosen_and_needs_no_torch_for_it() -> None:
    program = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['quickstart.py', '--help']\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'quickstart.py')!r}, run_name='__main__')\n"
    )

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    for option in ("--rounds", "--devices", "--strategy", "--seed", "--out"):
        assert option in finished.stdout


def test_more_devices_than_the_digits_can_train_and_test_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """With 600 devices each would hold three digits, and be tested on less than one."""
    finished = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "quickstart.py"),
            "--devices",
            "600",
            "--out",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert finished.returncode == 2
    assert "600 devices would share 1,797 digits" in finished.stderr
    assert finished.stderr.endswith("choose at most 100\n")
    assert list(tmp_path.iterdir()) == []
