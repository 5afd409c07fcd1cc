"""From a base model and updates to the file of the next version."""

from __future__ import annotations

import errno
import io
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeml_client.errors import ModelMismatchError
from edgeml_client.updates.layout import ArraySpec
from edgeml_client.updates.model_file import GlobalModel, encode_model
from edgeml_client.updates.safetensors_header import build_header, read_header
from edgeml_client.updates.update_file import encode_update, open_update
from edgeml_server.aggregation import (
    Contribution,
    DivergedError,
    NormBound,
    average_updates,
    write_next_version,
)
from tests.envelopes import envelope


class Workshop:
    """A folder with a base model and the updates of its devices."""

    def __init__(self, folder: Path, base: Mapping[str, object]) -> None:
        self.folder = folder
        self.base = folder / "base.safetensors"
        self.base.write_bytes(encode_model(base))
        self.model = GlobalModel(self.base.read_bytes())
        self.contributions: list[Contribution] = []

    def add(self, delta: Mapping[str, object], num_samples: int, *, private: Sequence[str] = ()) -> None:
        """Add the update of one more device."""
        header = envelope(
            base_digest=self.model.digest,
            device_id=f"d-{len(self.contributions)}",
            sample_count=num_samples,
            private=tuple(private),
        )
        path = self.folder / f"{len(self.contributions)}.update"
        path.write_bytes(encode_update(header, delta))
        norm = float(np.sqrt(sum(np.sum(np.float64(np.asarray(array)) ** 2) for array in delta.values())))
        self.contributions.append(Contribution(path, num_samples, norm))

    def next_version(self, *, norm_bound: NormBound = NormBound.NONE) -> bytes:
        """Return the file that the updates so far make."""
        stream = io.BytesIO()
        mean = average_updates(self.contributions, self.model.layout, norm_bound=norm_bound)
        write_next_version(self.base, mean, stream)
        return stream.getvalue()


def test_the_next_version_is_the_base_plus_the_weighted_mean(tmp_path: Path) -> None:
    """w: 1 + (2 * 1 + (-1) * 3) / 4 = 0.75; the counter is not averaged."""
    shop = Workshop(tmp_path, {"w": np.float32([[1.0]]), "steps": np.array(7)})
    shop.add({"w": np.float32([[2.0]])}, 1)
    shop.add({"w": np.float32([[-1.0]])}, 3)

    following = GlobalModel(shop.next_version())

    assert following.layout == shop.model.layout
    assert following.array("w").tolist() == [[0.75]]
    assert following.array("steps") == 7


def test_every_floating_dtype_keeps_its_dtype(tmp_path: Path) -> None:
    base = {
        name: torch.arange(5).to(dtype)
        for name, dtype in {
            "f64": torch.float64,
            "f32": torch.float32,
            "f16": torch.float16,
            "bf16": torch.bfloat16,
            "count": torch.int64,
            "mask": torch.bool,
        }.items()
    }
    shop = Workshop(tmp_path, base)
    shop.add({name: torch.full((5,), 0.5) for name in ("f64", "f32", "f16", "bf16")}, 3)

    following = GlobalModel(shop.next_version()).torch_tensors()

    for name, before in base.items():
        expected = before + 0.5 if before.is_floating_point() else before
        assert following[name].dtype is before.dtype
        assert torch.equal(following[name], expected)


def test_a_private_array_is_averaged_over_those_who_share_it_and_an_unsent_one_stays(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"body": np.float32([0]), "head": np.float32([5]), "local": np.float32([9])})
    shop.add({"body": np.float32([1])}, 10, private=["head", "local"])
    shop.add({"body": np.float32([3]), "head": np.float32([2])}, 10, private=["local"])

    following = GlobalModel(shop.next_version())

    assert [following.array(name).tolist() for name in ("body", "head", "local")] == [[2.0], [7.0], [9.0]]


def test_a_variance_never_falls_below_zero_and_anything_else_may(tmp_path: Path) -> None:
    """0.001 - 0.004 as rounding to 8 bits of a block with 1.0 in it may send it: zero, and not -0.003."""
    base = np.float32([0.001, 1.0])
    shop = Workshop(tmp_path, {"bn.running_var": base, "bn.running_mean": base})
    sent = np.float32([-0.004, -0.5])
    shop.add({"bn.running_var": sent, "bn.running_mean": sent}, 1)

    following = GlobalModel(shop.next_version())

    assert following.array("bn.running_var").tolist() == [0.0, 0.5]
    assert following.array("bn.running_mean").tolist() == pytest.approx([-0.003, 0.5])


def test_the_same_round_gives_the_same_file_and_another_order_may_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    shop = Workshop(tmp_path, {"w": rng.standard_normal((40, 30)).astype(np.float32)})
    for _ in range(7):
        shop.add({"w": rng.standard_normal((40, 30)).astype(np.float32)}, int(rng.integers(1, 999)))

    assert shop.next_version() == shop.next_version()


def test_a_median_norm_bound_keeps_one_giant_from_ruling(tmp_path: Path) -> None:
    """Norms 1, 1, 1000: the giant shrinks to 1, and the mean is (1 + 1 + 1) / 3 instead of 334."""
    shop = Workshop(tmp_path, {"w": np.float32([0])})
    for size in (1, 1, 1000):
        shop.add({"w": np.float32([size])}, 1)

    plain = GlobalModel(shop.next_version()).array("w")
    bounded = GlobalModel(shop.next_version(norm_bound=NormBound.MEDIAN)).array("w")

    np.testing.assert_allclose(plain, [334.0])
    np.testing.assert_allclose(bounded, [1.0], rtol=1e-6)


def test_devices_that_flip_and_blow_up_their_signs_do_less_harm_within_the_bound(tmp_path: Path) -> None:
    """20 of 100 send -5 times the honest update: (80 - 100) / 100 plain, (80 - 20) / 100 bounded."""
    shop = Workshop(tmp_path, {"w": np.float32([0])})
    for device in range(100):
        shop.add({"w": np.float32([-5.0 if device % 5 == 0 else 1.0])}, 1)

    plain = GlobalModel(shop.next_version()).array("w")
    bounded = GlobalModel(shop.next_version(norm_bound=NormBound.MEDIAN)).array("w")

    np.testing.assert_allclose(plain, [-0.2], rtol=1e-5)
    np.testing.assert_allclose(bounded, [0.6], rtol=1e-5)


def test_an_average_that_overflows_makes_no_version(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"w": np.zeros(3, np.float16)})
    shop.add({"w": np.float32([0, 1e6, 0])}, 1)

    with pytest.raises(DivergedError, match="array 'w' would hold NaN or Inf") as caught:
        shop.next_version()

    assert caught.value.array_name == "w"


def test_an_update_of_another_model_is_noticed_even_then(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"w": np.zeros(3, np.float32)})
    shop.add({"w": np.zeros(4, np.float32)}, 1)

    with pytest.raises(ModelMismatchError, match="w: expected shape"):
        shop.next_version()


def test_a_model_without_floating_arrays_stays_as_it_is(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"steps": np.array(3)})

    assert shop.next_version() == shop.base.read_bytes()


def test_whoever_aggregates_may_renew_a_lease_after_each_update(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"w": np.zeros(1, np.float32)})
    for _ in range(3):
        shop.add({"w": np.ones(1, np.float32)}, 1)
    renewals: list[int] = []

    average_updates(shop.contributions, shop.model.layout, after_each=lambda: renewals.append(1))

    assert len(renewals) == 3


def test_the_peak_of_memory_does_not_grow_with_the_number_of_updates(tmp_path: Path) -> None:
    """A model of 2 MiB, 3 or 24 updates, written to a file: one float32 model plus blocks of 1 MiB."""
    size = 1 << 19
    shop = Workshop(tmp_path, {"w": np.zeros(size, np.float32)})
    for _ in range(24):
        shop.add({"w": np.ones(size, np.float32)}, 1)

    def peak_bytes(num_updates: int) -> int:
        tracemalloc.start()
        mean = average_updates(shop.contributions[:num_updates], shop.model.layout)
        with (tmp_path / "next").open("wb") as stream:
            write_next_version(shop.base, mean, stream)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    few, many = peak_bytes(3), peak_bytes(24)

    assert many <= few * 1.05
    assert many < 4 * size + 8 * (1 << 20)


def test_updates_added_together_give_the_bits_of_one_after_the_other(tmp_path: Path) -> None:
    """20 in a row, more than are added together at once, and one of them keeps an array private."""
    generator = np.random.default_rng(4)
    shop = Workshop(tmp_path, {"a": np.zeros((300, 300), np.float32), "b": np.zeros(7, np.float32)})
    deltas = [
        {spec.name: generator.standard_normal(spec.shape, dtype=np.float32) for spec in shop.model.layout}
        for _ in range(20)
    ]
    del deltas[5]["b"]
    for number, delta in enumerate(deltas):
        shop.add(delta, number + 1, private=["b"] if number == 5 else [])

    mean = average_updates(shop.contributions, shop.model.layout)

    total = np.zeros((300, 300), np.float32)
    for number, delta in enumerate(deltas):
        total += delta["a"] * np.float32(number + 1)
    assert mean.mean("a").tobytes() == (total / np.float32(210)).tobytes()
    assert [mean.num_samples("a"), mean.num_samples("b")] == [210, 204]


def test_the_order_of_the_arrays_in_a_file_does_not_matter(tmp_path: Path) -> None:
    """The format allows any order: here ``b`` lies before ``a``, and ``c`` after both."""
    delta = {"a": np.float32([1, 2]), "b": np.float32([3]), "c": np.float32([4, 5])}
    shop = Workshop(tmp_path, {name: np.zeros_like(array) for name, array in delta.items()})
    shop.add(delta, 1)
    ours = shop.contributions[0].path
    specs = tuple(ArraySpec(name, delta[name].shape, "F32") for name in ("b", "a", "c"))
    metadata = read_header(memoryview(ours.read_bytes())).metadata
    ours.write_bytes(build_header(specs, metadata) + b"".join(delta[spec.name].tobytes() for spec in specs))

    mean = average_updates(shop.contributions, shop.model.layout)

    assert {name: mean.mean(name).tolist() for name in delta} == {
        name: delta[name].tolist() for name in delta
    }


def test_an_update_that_is_cut_while_it_is_read_makes_no_mean(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, {"w": np.zeros(100, np.float32)})
    shop.add({"w": np.ones(100, np.float32)}, 1)
    update = open_update(shop.contributions[0].path, shop.model.layout)
    path = shop.contributions[0].path
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(OSError, match="it was cut while it was read"):
        list(update.chunks())


class FullDisk:
    """Takes so many bytes, and then no more."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes

    def write(self, chunk: bytes | memoryview, /) -> None:
        self.room_bytes -= len(chunk)
        if self.room_bytes < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("missing_bytes", [1, 500_000, 1_000_000])
def test_a_disk_that_fills_up_in_the_second_thread_is_told(tmp_path: Path, missing_bytes: int) -> None:
    """The first piece, one in the middle and the last one: none of them is lost in silence."""
    shop = Workshop(tmp_path, {"w": np.zeros(250_000, np.float32)})
    shop.add({"w": np.ones(250_000, np.float32)}, 1)
    mean = average_updates(shop.contributions, shop.model.layout)
    num_bytes = shop.base.stat().st_size

    write_next_version(shop.base, mean, FullDisk(num_bytes))
    with pytest.raises(OSError, match="No space left"):
        write_next_version(shop.base, mean, FullDisk(num_bytes - missing_bytes))
