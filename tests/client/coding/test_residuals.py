"""What updates leave out is kept for the next round: once, whole, and for the right arrays."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from edgeml_client.errors import InvalidUpdateError, RoundStateError
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.coding.residual_slot import ResidualMark
from tests.client.coding.leftovers import all_left_out, stage
from tests.full_disk import longest_file


def vector_of(*numbers: float, name: str = "w") -> DeltaVector:
    return DeltaVector.of({name: np.array(numbers, np.float32)})


def mark(round_id: str, *, model_id: str = "m") -> ResidualMark:
    return ResidualMark(
        model_id=model_id, round_id=round_id, base_digest="sha256:0", update_digest=f"sha256:{round_id}"
    )


def added(store: ResidualStore, *, round_id: str = "next", size: int = 2) -> list[float]:
    vector = vector_of(*[0.0] * size)
    store.open(vector.layout, model_id="m", round_id=round_id).add_to_(vector.values, start=0)
    return vector.values.tolist()


def test_a_device_starts_without_a_residual(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path / "residuals")

    assert store.find_mark("m") is None
    assert store.open(vector_of(1.0).layout, model_id="m", round_id="r-1").is_empty
    assert not (tmp_path / "residuals").exists()


def test_the_last_committed_residual_counts(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    for number in (1.0, 2.0, 3.0):
        stage(store, vector_of(number, -number), mark(f"r-{number}")).commit()
    stage(store, vector_of(9.0, 9.0), mark("r-9"))  # the process dies before it commits

    again = ResidualStore(tmp_path)

    assert added(again) == [3.0, -3.0]
    assert again.find_mark("m") == mark("r-3.0")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_header_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    """The second residual lies in slot a; each byte of its header may be the one that got lost."""
    store = ResidualStore(tmp_path)
    stage(store, vector_of(1.0, 1.0), mark("r-1")).commit()
    stage(store, vector_of(2.0, 2.0), mark("r-2")).commit()
    slot = tmp_path / "m.a.residual"
    whole = slot.read_bytes()

    for position in range(0, 200, 3):
        torn = bytearray(whole)
        torn[position] ^= 0x55
        slot.write_bytes(torn)
        assert added(store) == [1.0, 1.0]


def test_a_residual_is_not_added_to_the_round_it_remained_from(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    stage(store, vector_of(1.0), mark("r-1")).commit()

    with pytest.raises(RoundStateError, match=r"already made its update for round 'r-1'.*flush_outbox"):
        store.open(vector_of(5.0).layout, model_id="m", round_id="r-1")


@pytest.mark.parametrize("other", [vector_of(1.0, 2.0), vector_of(1.0, name="v")])
def test_a_residual_of_other_arrays_is_dropped(
    other: DeltaVector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ResidualStore(tmp_path)
    stage(store, vector_of(7.0), mark("r-1")).commit()

    with caplog.at_level(logging.WARNING):
        kept = store.open(other.layout, model_id="m", round_id="r-2")

    assert kept.is_empty
    assert kept.sequence == 1
    assert "other arrays" in caplog.text


def test_a_truncated_residual_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A header of 16,384 bytes, and one of two numbers."""
    store = ResidualStore(tmp_path)
    stage(store, vector_of(7.0, 7.0), mark("r-1")).commit()
    slot = tmp_path / "m.b.residual"
    slot.write_bytes(slot.read_bytes()[:-4])

    with caplog.at_level(logging.WARNING):
        assert added(store) == [0.0, 0.0]

    assert "has 16388 bytes and should have 16392" in caplog.text


@pytest.mark.parametrize("damage", [1e30, np.nan])
def test_numbers_that_the_disk_did_not_keep_are_not_used(
    damage: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of two numbers is another one than was written; the next update replaces both."""
    store = ResidualStore(tmp_path)
    stage(store, vector_of(7.0, 7.0), mark("r-1")).commit()
    slot = tmp_path / "m.b.residual"
    slot.write_bytes(slot.read_bytes()[:-4] + np.float32(damage).tobytes())

    with caplog.at_level(logging.WARNING):
        assert added(store) == [0.0, 0.0]
    store.stage(all_left_out(vector_of(1.0, 2.0), follows=1), mark("r-2")).commit()

    assert "do not match their checksum" in caplog.text
    assert added(store) == [1.0, 2.0]


def test_a_former_residual_whose_numbers_are_being_replaced_does_not_count(tmp_path: Path) -> None:
    """The third shares its slot with the first; it is staged when the second, and so the first, is lost."""
    store = ResidualStore(tmp_path)
    for number in (1.0, 2.0):
        stage(store, vector_of(number, number), mark(f"r-{number}")).commit()
    stage(store, vector_of(3.0, 3.0), mark("r-3"))
    (tmp_path / "m.a.residual").unlink()

    assert added(store) == [0.0, 0.0]


def test_a_residual_that_does_not_fit_the_disk_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    """A process may write 20,000 bytes a file, a header and 904 numbers: the first write takes a part."""
    store = ResidualStore(tmp_path)
    stage(store, vector_of(1.0, 1.0), mark("r-1")).commit()
    with longest_file(20_000), pytest.raises(OSError, match="too large"):
        stage(store, vector_of(*[2.0] * 2000), mark("r-2"))

    assert added(store) == [1.0, 1.0]


def test_models_do_not_share_a_residual(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    stage(store, vector_of(1.0, 2.0), mark("r-1", model_id="m")).commit()
    stage(store, vector_of(8.0, 8.0), mark("r-1", model_id="m.a")).commit()

    assert added(store) == [1.0, 2.0]


def test_a_residual_may_shrink_with_its_model(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    for round_id, numbers in (("r-1", [1.0] * 9), ("r-2", [1.0] * 9), ("r-3", [2.0, 3.0])):
        stage(store, vector_of(*numbers), mark(round_id)).commit()

    assert added(store) == [2.0, 3.0]


def test_a_residual_that_another_update_sends_already_is_not_sent_twice(tmp_path: Path) -> None:
    """Two rounds find the same residual; the second to be stored is refused, and the first one's stays."""
    store = ResidualStore(tmp_path)
    stage(store, vector_of(1.0, 2.0), mark("r-1")).commit()
    first, second = (store.open(vector_of(0, 0).layout, model_id="m", round_id=r) for r in ("r-2", "r-3"))
    store.stage(all_left_out(vector_of(5.0, 6.0), follows=first.sequence), mark("r-2")).commit()

    with pytest.raises(RoundStateError, match="another update of model 'm' was made"):
        store.stage(all_left_out(vector_of(7.0, 8.0), follows=second.sequence), mark("r-3"))

    assert added(store) == [5.0, 6.0]


def test_a_residual_is_read_from_any_position(tmp_path: Path) -> None:
    """It holds its own positions; 70,000 numbers are more than one block."""
    store = ResidualStore(tmp_path)
    stage(store, vector_of(*range(70_000)), mark("r-1")).commit()
    kept = store.open(vector_of(*[0.0] * 70_000).layout, model_id="m", round_id="r-2")

    for start, size in ((69_998, 2), (0, 70_000), (65_535, 3), (5, 0)):
        target = np.ones(size, np.float32)
        kept.add_to_(target, start=start)
        np.testing.assert_array_equal(target, np.arange(start, start + size) + 1)


def test_ids_too_long_for_a_header_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path / "residuals")

    with pytest.raises(InvalidUpdateError, match="too long"):
        stage(store, vector_of(1.0), mark("r" * 20_000))

    assert not (tmp_path / "residuals").exists()
