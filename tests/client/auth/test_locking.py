from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from edgeml_client.auth.locking import LockBusyError, across_processes


def test_the_lock_excludes_everybody_else(tmp_path: Path) -> None:
    with (
        across_processes("a", directory=tmp_path, timeout_s=1),
        pytest.raises(LockBusyError, match="another process"),
        across_processes("a", directory=tmp_path, timeout_s=0),
    ):
        pass


def test_the_lock_excludes_other_threads(tmp_path: Path) -> None:
    busy = threading.Event()

    def enter() -> None:
        try:
            with across_processes("a", directory=tmp_path, timeout_s=0):
                pass
        except LockBusyError:
            busy.set()

    with across_processes("a", directory=tmp_path, timeout_s=1):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()

    assert busy.is_set()


def test_another_name_is_another_lock(tmp_path: Path) -> None:
    with (
        across_processes("a", directory=tmp_path, timeout_s=1),
        across_processes("b", directory=tmp_path, timeout_s=0),
    ):
        assert len(list(tmp_path.iterdir())) == 2


def test_where_no_lock_file_can_be_made_the_work_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    caplog.set_level(logging.WARNING)

    with across_processes("a", directory=tmp_path / "occupied", timeout_s=1):
        assert "one process for each device" in caplog.text
