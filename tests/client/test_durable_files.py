from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeml_client.durable import flushing_early, in_pieces, replacing, write_digested, write_durably


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


def test_much_data_is_flushed_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 MiB in pieces of one: 8 wait at least once, so a second thread flushes before the end."""
    name = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
    flush, threads = getattr(os, name), list[int]()
    monkeypatch.setattr(os, name, lambda file: (threads.append(threading.get_ident()), flush(file)))
    data = os.urandom(20 << 20)

    write_durably(tmp_path / "file", data)

    assert (tmp_path / "file").read_bytes() == data
    assert threads
    assert threading.get_ident() not in threads[:1]


def test_a_disk_that_fails_in_the_second_thread_fails_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr("edgeml_client.durable.sync_content", lambda file: fail(file.fileno()))

    with pytest.raises(OSError, match="broken"):
        write_durably(tmp_path / "file", bytes(20 << 20))

    assert names(tmp_path) == []


def test_little_data_needs_no_second_thread(tmp_path: Path) -> None:
    before = threading.active_count()

    with (tmp_path / "file").open("wb") as file, flushing_early(file) as write:
        write(b"little")
        assert threading.active_count() == before

    assert (tmp_path / "file").read_bytes() == b"little"


@pytest.mark.parametrize("num_bytes", [0, 1, 1 << 20, (5 << 19) + 3])
def test_data_is_written_and_digested_in_pieces_of_a_mib(tmp_path: Path, num_bytes: int) -> None:
    """Ends at the end of a piece and within one."""
    data = os.urandom(num_bytes)
    pieces = list(in_pieces(data))

    digest = write_digested(tmp_path / "file", pieces)

    assert [len(piece) for piece in pieces[:-1]] == [1 << 20] * (len(pieces) - 1)
    assert all(piece.obj is data for piece in pieces), "nothing is copied"
    assert (tmp_path / "file").read_bytes() == data
    assert digest == hashlib.sha256(data).digest()


def test_a_digested_file_whose_pieces_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    (tmp_path / "file").write_bytes(b"before")

    with pytest.raises(ValueError, match="no more"):
        write_digested(tmp_path / "file", pieces())

    assert (tmp_path / "file").read_bytes() == b"before"
    assert names(tmp_path) == ["file"]
