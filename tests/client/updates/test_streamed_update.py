"""A dense update that is computed while it is read: on its way to the disk, and again on its way out."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates import DeltaVector, StreamedDelta
from edgeml_client.updates.outbox import Outbox
from edgeml_client.updates.streamed_update import StreamedUpdate
from edgeml_client.updates.update_file import encode_update
from edgeml_client.updates.vector import BLOCK
from tests.envelopes import envelope


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 1])
def test_it_is_the_file_of_the_same_arrays_each_time_it_is_read(size: int) -> None:
    """Ends within a block and at its end; arrays that lie across blocks, and one without a number."""
    base = {"b": np.zeros(size, np.float32), "a": np.ones(3, np.float32)}
    updated = {"b": np.arange(size, dtype=np.float32), "a": np.full(3, 3, np.float32)}
    delta = {name: updated[name] - base[name] for name in base}

    update = StreamedUpdate(envelope(), StreamedDelta.between(base, updated))

    expected = encode_update(envelope(), delta)
    assert [bytes(update) for _ in range(2)] == [expected] * 2
    assert update.num_bytes == len(expected)


def test_a_piece_stays_as_it_is_until_the_next_but_one_is_asked_for() -> None:
    """That is what lets one thread digest it while another one computes the next."""
    update = StreamedUpdate(envelope(), DeltaVector.of({"w": np.arange(4 * BLOCK, dtype=np.float32)}))
    pieces = update.pieces()
    next(pieces)

    first, second = next(pieces), next(pieces)

    assert np.frombuffer(first, np.float32).tolist() == list(range(BLOCK))
    assert np.frombuffer(second, np.float32).tolist() == list(range(BLOCK, 2 * BLOCK))


def test_the_outbox_stores_it_and_names_its_digest(tmp_path: Path) -> None:
    update = StreamedUpdate(envelope(), DeltaVector.of({"w": np.arange(2 * BLOCK + 5, dtype=np.float32)}))

    stored = Outbox(tmp_path).put(update)

    assert stored.path.read_bytes() == bytes(update)
    assert stored.sha256 == hashlib.sha256(bytes(update)).digest()
    assert (stored.num_bytes, stored.header) == (update.num_bytes, envelope())
    assert Outbox(tmp_path).pending() == (stored,)


def test_storing_and_reading_it_takes_blocks_and_not_a_model(tmp_path: Path) -> None:
    """16 MB of numbers; two blocks, what is subtracted of each and a chunk on its way out are below 2 MB."""
    base = {"w": np.zeros(4_000_000, np.float32)}
    updated = {"w": np.ones(4_000_000, np.float32)}
    outbox = Outbox(tmp_path)
    tracemalloc.start()

    update = StreamedUpdate(envelope(), StreamedDelta.between(base, updated))
    outbox.put(update)
    for _ in update.chunks():
        pass

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2_000_000


def test_the_whole_file_in_memory_takes_its_own_room_and_little_more() -> None:
    """Room is taken an eighth ahead as the file grows; holding the pieces too would take twice its size."""
    update = StreamedUpdate(envelope(), DeltaVector.of({"w": np.ones(4_000_000, np.float32)}))
    tracemalloc.start()

    whole = bytes(update)

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1.25 * len(whole)


def test_a_private_array_is_not_written() -> None:
    with pytest.raises(InvalidUpdateError, match="must stay on the device"):
        StreamedUpdate(envelope(private=("w",)), DeltaVector.of({"w": np.ones(2, np.float32)}))
