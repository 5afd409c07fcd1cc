from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edgeml_client.durable import replacing


def write_half(path: Path) -> None:
    """Be interrupted while writing."""
    with replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")

    with replacing(target) as file:
        file.write(b"after")
        assert target.read_bytes() == b"before"

    assert target.read_bytes() == b"after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(tmp_path) == ["file"]


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")

    with pytest.raises(KeyboardInterrupt):
        write_half(target)

    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_the_users_umask_holds(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "file", mode=0o666):
            pass
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "absent" / "file"):
        pass
