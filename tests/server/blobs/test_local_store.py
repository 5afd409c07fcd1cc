"""A local store holds whole files under their digest, or nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeml_client.testing import FakeClock
from edgeml_server.blobs import LocalBlobStore, StoredBlob, check_digest
from tests.full_disk import longest_file

DATA = b"numbers " * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def leftovers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "blobs" / "incoming").iterdir())


def test_a_file_is_found_under_the_digest_of_its_bytes(store: LocalBlobStore) -> None:
    stored = store.put([DATA[:100], memoryview(DATA)[100:]])

    assert stored == StoredBlob(DIGEST, len(DATA))
    assert store.exists(DIGEST)
    assert store.size(DIGEST) == len(DATA)
    assert store.path(DIGEST).read_bytes() == DATA
    with store.open(DIGEST) as file:
        assert file.read() == DATA


def test_the_same_file_twice_is_one_file(store: LocalBlobStore, tmp_path: Path) -> None:
    assert store.put([DATA]) == store.put([DATA])

    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert len(files) == 1


def test_an_empty_file_is_a_file(store: LocalBlobStore) -> None:
    stored = store.put([])

    assert stored.size_bytes == 0
    assert store.path(stored.digest).read_bytes() == b""


def test_nothing_is_there_before_the_commit(store: LocalBlobStore, tmp_path: Path) -> None:
    writer = store.writer()
    writer.write(DATA)

    assert not store.exists(DIGEST)
    assert (writer.num_bytes, writer.digest) == (len(DATA), DIGEST)

    writer.discard()
    assert leftovers(tmp_path) == []


def test_a_source_that_fails_leaves_nothing(store: LocalBlobStore, tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield DATA
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put(failing())

    assert not store.exists(DIGEST)
    assert leftovers(tmp_path) == []


def test_discarding_after_the_commit_keeps_the_file(store: LocalBlobStore) -> None:
    writer = store.writer()
    writer.write(DATA)
    writer.commit()

    writer.discard()

    assert store.exists(DIGEST)


def test_a_deleted_file_is_gone_and_deleting_it_again_is_fine(store: LocalBlobStore) -> None:
    store.put([DATA])

    store.delete(DIGEST)
    store.delete(DIGEST)

    assert not store.exists(DIGEST)
    for read in (store.open, store.path, store.size):
        with pytest.raises(FileNotFoundError):
            read(DIGEST)


@pytest.mark.parametrize(
    "name",
    ["", "sha256:", "../../etc/passwd", f"sha256:{'g' * 64}", f"SHA256:{'0' * 64}", f"sha256:{'0' * 63}/"],
)
def test_nothing_but_a_digest_becomes_part_of_a_path(store: LocalBlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        check_digest(name)
    with pytest.raises(ValueError, match="is not a digest"):
        store.open(name)


def test_many_threads_store_the_same_file_at_once(store: LocalBlobStore, tmp_path: Path) -> None:
    stored: list[StoredBlob] = []
    threads = [threading.Thread(target=lambda: stored.append(store.put([DATA]))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(stored) == {StoredBlob(DIGEST, len(DATA))}
    assert store.path(DIGEST).read_bytes() == DATA
    assert leftovers(tmp_path) == []


def test_a_store_whose_folder_is_gone_is_not_ready(store: LocalBlobStore, tmp_path: Path) -> None:
    store.ping()
    (tmp_path / "blobs" / "incoming").rmdir()

    with pytest.raises(FileNotFoundError):
        store.ping()


def test_what_a_crash_left_is_removed_when_it_is_a_day_old(store: LocalBlobStore, tmp_path: Path) -> None:
    clock = FakeClock()
    writers = [store.writer() for _ in range(2)]
    old, young = leftovers(tmp_path)
    for path, age_s in ((old, 86_401), (young, 86_399)):
        written_s = clock.now().timestamp() - age_s
        os.utime(path, times=(written_s, written_s))

    LocalBlobStore(tmp_path / "blobs", clock=clock)

    assert leftovers(tmp_path) == [young]
    for writer in writers:
        writer.discard()


def test_however_many_files_are_written_at_once_a_few_threads_flush_them(store: LocalBlobStore) -> None:
    before = set(threading.enumerate())
    writers = [store.writer() for _ in range(12)]

    for writer in writers:
        writer.write(bytes(9 << 20))
    started = set(threading.enumerate()) - before
    for writer in writers:
        writer.discard()

    assert 1 <= len(started) <= 4


def test_a_full_disk_is_not_filled_with_what_did_not_fit(store: LocalBlobStore, tmp_path: Path) -> None:
    """A limit on a file's length stands for the disk; so little is missing that a buffer would keep it."""
    with longest_file((1 << 19) - 100), pytest.raises(OSError, match="File too large"):
        store.put([bytes(1 << 19)])

    assert leftovers(tmp_path) == []
