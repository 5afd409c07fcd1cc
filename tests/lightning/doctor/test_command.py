"""``edgeml doctor``: its exit status and its outputs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeml_lightning.doctor.cli import main

PATIENTS = "tests.lightning.doctor.patients"


def run(*arguments: str) -> int:
    return main(["doctor", *arguments])


def test_it_ends_with_0_when_nothing_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--module", f"{PATIENTS}:Unused") == 0
    assert capsys.readouterr().out.startswith("Unused: 9 pass, 1 warn, 0 fail")


def test_it_ends_with_1_when_something_failed() -> None:
    assert run("--module", f"{PATIENTS}:Healthy", "--head", "nothing") == 1


def test_data_come_from_a_class_or_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--module", f"{PATIENTS}:WithoutData", "--data", f"{PATIENTS}:rows") == 0
    assert "equal to autograd's" in capsys.readouterr().out


def test_findings_are_there_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    run("--module", f"{PATIENTS}:Tied", "--json")

    report = json.loads(capsys.readouterr().out)
    assert (report["subject"], report["worst"]) == ("Tied", "pass")
    assert set(report["findings"][0]) == {"check", "verdict", "found", "advice"}


def test_what_a_module_prints_is_no_part_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    run("--module", f"{PATIENTS}:Chatty", "--json")

    printed = capsys.readouterr()
    assert json.loads(printed.out)["subject"] == "Chatty"
    assert "hello" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--module", "patients"], "--module must look like package.module:Class, not 'patients'"),
        (
            ["--module", "no.such.module:Net"],
            "--module no.such.module:Net: ModuleNotFoundError: No module named 'no'",
        ),
        (["--module", f"{PATIENTS}:Nobody"], "has no attribute 'Nobody'"),
        (["--module", f"{PATIENTS}:NOT_CALLABLE"], "must be a class or a function, not int"),
        (["--module", f"{PATIENTS}:needs_a_width"], "name a function that makes needs_a_width"),
        (["--module", f"{PATIENTS}:quits"], "quits: SystemExit: 0"),
        (["--module", "tests.lightning.doctor.breaks_at_import:Net"], "ValueError: not today"),
        (["--module", f"{PATIENTS}:Rows"], "a lightning LightningModule is needed, not Rows"),
        (
            ["--module", f"{PATIENTS}:Healthy", "--data", f"{PATIENTS}:Healthy"],
            "a LightningDataModule or a DataLoader, not Healthy",
        ),
    ],
)
def test_wrong_arguments_end_with_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err


def test_the_command_finds_modules_in_the_folder_it_is_called_in(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from lightning.pytorch.demos.boring_classes import BoringModel as Net\n"
    )

    command = [sys.executable, "-m", "edgeml_lightning.doctor", "--module", "net:Net"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("BoringModel: 10 pass, 0 warn, 0 fail")


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ("torch", "error: edgeml doctor needs .*pip install 'edgeml-lightning\\[lightning\\]'"),
        ("fsspec", "ModuleNotFoundError: .*fsspec"),
    ],
)
def test_only_a_missing_extra_is_called_one(absent: str, said: str) -> None:
    """What lightning itself misses is not what our extra would bring."""
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from edgeml_lightning.doctor.cli import main\n"
        "main(['doctor', '--module', 'net:Net'])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100
    )

    assert re.search(said, done.stderr)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['lightning'] = None\n"
        "from edgeml_lightning.doctor.cli import main\n"
        "main(['doctor', '--help'])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )

    assert "--module PACKAGE.MODULE:NAME" in done.stdout
