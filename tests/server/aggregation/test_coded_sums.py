"""Coded updates are summed from their streams, with the bits that adding dense arrays gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import DeltaVector, encode_update, layout_of, open_update
from edgeml_client.updates.coding import Coding, encode_coded
from edgeml_server.aggregation import Contribution, NormBound, RunningMean, average_updates
from tests.envelopes import envelope

SHAPES = {"a": (300, 5), "b": (), "body.c": (1_100_000,), "d": (0,), "head": (77,)}
LAYOUT = layout_of({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})


def header(number: int, private: tuple[str, ...]) -> UpdateHeader:
    return envelope(device_id=f"d-{number}", private=private)


@pytest.fixture(scope="module")
def contributions(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Contribution, Contribution]]:
    """Updates coded in several ways, each with its dense twin; some keep arrays private."""
    folder = tmp_path_factory.mktemp("updates")

    def pairs() -> Iterator[tuple[Contribution, Contribution]]:
        cases = [
            (Coding(values="int4", block=64, scales="bfloat16"), 0.1, ()),
            (Coding(values="int8", scales="float32"), 0.05, ("head",)),
            (Coding(values="float32"), 0.3, ("a", "body.c")),
            (Coding(values="int16", block=256, scales="float32"), 1.0, ("b",)),
            (Coding(values="int8", block=256, scales="bfloat16", rank=2), 1.0, ("head",)),
        ]
        for number, (coding, fraction, private) in enumerate(cases):
            generator = np.random.default_rng(number)
            delta = {
                name: generator.standard_normal(shape, dtype=np.float32)
                for name, shape in SHAPES.items()
                if name not in private
            }
            file = encode_coded(
                header(number, private), DeltaVector.of(delta), coding=coding, fraction=fraction
            )
            coded, dense = folder / f"{number}.coded", folder / f"{number}.dense"
            coded.write_bytes(file)
            update = open_update(coded, LAYOUT)
            dense.write_bytes(encode_update(update.header, dict(update.arrays())))
            norm = update.check_finite()
            yield Contribution(coded, number + 1, norm), Contribution(dense, number + 1, norm)

    return list(pairs())


def sums_of(mean: RunningMean) -> dict[str, bytes]:
    return {name: mean.mean(name).tobytes() for name in SHAPES}


@pytest.mark.parametrize("norm_bound", list(NormBound))
def test_coded_and_dense_updates_give_the_same_bits(
    contributions: list[tuple[Contribution, Contribution]], norm_bound: NormBound
) -> None:
    coded = average_updates([one for one, _ in contributions], LAYOUT, norm_bound=norm_bound)
    dense = average_updates([one for _, one in contributions], LAYOUT, norm_bound=norm_bound)
    mixed = average_updates(
        [pair[number % 2] for number, pair in enumerate(contributions)], LAYOUT, norm_bound=norm_bound
    )

    assert sums_of(coded) == sums_of(dense) == sums_of(mixed)
    assert [coded.num_samples(name) for name in SHAPES] == [12, 11, 12, 15, 8]
