"""What the processes of a measurement leave behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.processes import MeasurementError, leaving_nothing

_STARTS_ANOTHER = "setsid sh -c 'mktemp -d; sleep 600' & exit 0"


def _started(environment: dict[str, str]) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        ["/bin/sh", "-c", _STARTS_ANOTHER], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _ends(process: subprocess.Popen[str]) -> bool:
    """Return once the process and the one it started have ended: both hold the pipe open."""
    output, _ = process.communicate(timeout=30)
    return not output


def test_a_process_in_a_session_of_its_own_ends_and_its_folder_goes() -> None:
    with leaving_nothing() as environment:
        process, folder = _started(environment)
        assert folder.is_dir()

    assert _ends(process)
    assert not folder.exists()
    assert not folder.parent.exists()


def test_nothing_is_left_of_a_measurement_that_fails() -> None:
    with pytest.raises(MeasurementError), leaving_nothing() as environment:  # noqa: PT012 - it fails on its way
        process, folder = _started(environment)
        raise MeasurementError("no result")

    assert _ends(process)
    assert not folder.parent.exists()


def test_processes_of_others_go_on() -> None:
    other = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with leaving_nothing():
        pass

    output, _ = other.communicate("still here", timeout=30)
    assert output == "still here"
