"""What updates leave out is kept for the next round: once, whole, and for the right arrays."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from edgeml_client.errors import InvalidUpdateError, RoundStateError
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding.residual import ResidualMark, ResidualStore


def vector_of(*numbers: float, name: str = "w") -> DeltaVector:
    return DeltaVector.of({name: np.array(numbers, np.float32)})


def mark(round_id: str, *, model_id: str = "m") -> ResidualMark:
    return ResidualMark(
        model_id=model_id, round_id=round_id, base_digest="sha256:0", update_digest=f"sha256:{round_id}"
    )


def added(store: ResidualStore, *, round_id: str = "next", size: int = 2) -> list[float]:
    vector = vector_of(*[0.0] * size)
    store.add_to_(vector, model_id="m", round_id=round_id)
    return vector.values.tolist()


def test_a_device_starts_without_a_residual(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path / "residuals")

    assert store.find_mark("m") is None
    assert not store.add_to_(vector_of(1.0), model_id="m", round_id="r-1")
    assert not (tmp_path / "residuals").exists()


def test_the_last_committed_residual_counts(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    for number in (1.0, 2.0, 3.0):
        store.stage(vector_of(number, -number), mark(f"r-{number}")).commit()
    store.stage(vector_of(9.0, 9.0), mark("r-9"))  # the process dies before it commits

    again = ResidualStore(tmp_path)

    assert added(again) == [3.0, -3.0]
    assert again.find_mark("m") == mark("r-3.0")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_header_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    """The second residual lies in slot a; each byte of its header may be the one that got lost."""
    store = ResidualStore(tmp_path)
    store.stage(vector_of(1.0, 1.0), mark("r-1")).commit()
    store.stage(vector_of(2.0, 2.0), mark("r-2")).commit()
    slot = tmp_path / "m.a.residual"
    whole = slot.read_bytes()

    for position in range(0, 200, 3):
        torn = bytearray(whole)
        torn[position] ^= 0x55
        slot.write_bytes(torn)
        assert added(store) == [1.0, 1.0]


def test_a_residual_is_not_added_to_the_round_it_remained_from(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    store.stage(vector_of(1.0), mark("r-1")).commit()

    with pytest.raises(RoundStateError, match=r"already made its update for round 'r-1'.*flush_outbox"):
        store.add_to_(vector_of(5.0), model_id="m", round_id="r-1")


@pytest.mark.parametrize("other", [vector_of(1.0, 2.0), vector_of(1.0, name="v")])
def test_a_residual_of_other_arrays_is_dropped(
    other: DeltaVector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ResidualStore(tmp_path)
    store.stage(vector_of(7.0), mark("r-1")).commit()
    before = other.values.tolist()

    with caplog.at_level(logging.WARNING):
        assert not store.add_to_(other, model_id="m", round_id="r-2")

    assert other.values.tolist() == before
    assert "other arrays" in caplog.text


def test_a_truncated_residual_is_not_used(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    store.stage(vector_of(7.0, 7.0), mark("r-1")).commit()
    slot = tmp_path / "m.b.residual"
    slot.write_bytes(slot.read_bytes()[:-4])

    assert added(store) == [0.0, 0.0]


def test_models_do_not_share_a_residual(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    store.stage(vector_of(1.0, 2.0), mark("r-1", model_id="m")).commit()
    store.stage(vector_of(8.0, 8.0), mark("r-1", model_id="m.a")).commit()

    assert added(store) == [1.0, 2.0]


def test_a_residual_may_shrink_with_its_model(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    for round_id, numbers in (("r-1", [1.0] * 9), ("r-2", [1.0] * 9), ("r-3", [2.0, 3.0])):
        store.stage(vector_of(*numbers), mark(round_id)).commit()

    assert added(store) == [2.0, 3.0]


def test_ids_too_long_for_a_header_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path / "residuals")

    with pytest.raises(InvalidUpdateError, match="too long"):
        store.stage(vector_of(1.0), mark("r" * 20_000))

    assert not (tmp_path / "residuals").exists()
