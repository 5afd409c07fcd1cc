"""What updates leave out, made and read back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeml_client.updates import DeltaVector, Float32Array
from edgeml_client.updates.coding import LeftOut
from edgeml_client.updates.coding.residual import ResidualStore, StagedResidual
from edgeml_client.updates.coding.residual_slot import ResidualMark
from edgeml_client.updates.coding.spec import Chunk

__all__ = ["all_left_out", "numbers_of", "stage"]


class NothingSent:
    """An update whose numbers are all zero."""

    def chunks(self) -> Iterator[Chunk]:
        return iter(())


def all_left_out(vector: DeltaVector, *, follows: int = 0) -> LeftOut:
    return LeftOut(vector, NothingSent(), follows=follows)


def numbers_of(left_out: LeftOut) -> Float32Array:
    return np.concatenate([np.empty(0, np.float32), *(block.copy() for block in left_out.blocks())])


def stage(store: ResidualStore, vector: DeltaVector, mark: ResidualMark) -> StagedResidual:
    """Stage a vector as what remained after an update that made up for all that was kept before."""
    before = store.open(vector.layout, model_id=mark.model_id, round_id=f"after {mark.round_id}")
    return store.stage(all_left_out(vector, follows=before.sequence), mark)
