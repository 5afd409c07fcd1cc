"""NVFlare: its weighted aggregation helper, fed with decoded chunks one client after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from nvflare.app_common.np.np_downloader import ArrayConsumer, ArrayDownloadable
from nvflare.app_opt.pt.tensor_downloader import TensorConsumer, TensorDownloadable

from benchmarks.cases.plain import Call, Cases
from benchmarks.cases.streaming import sample_counts, stream
from benchmarks.cases.updates_nvflare import CHUNK_BYTES, register
from benchmarks.shapes import num_parameters, states

__all__ = ["cases"]


def cases(size: str, *, num_updates: int) -> Cases:
    """Return the sum over decoded numpy and torch chunks, which is what its server does."""
    register()
    _, updated = states(size)

    def chunks_of(source: Any) -> list[bytes]:  # noqa: ANN401 - two unrelated classes of the peer
        return [source.produce_item(index) for index in range(source.get_item_count())]

    def mean_of(decode: Callable[[], Mapping[str, Any]]) -> Call:
        def run() -> int:
            helper = WeightedAggregationHelper()
            for number, count in enumerate(sample_counts(num_updates)):
                helper.add(decode(), count, f"client-{number}", 0)
            helper.get_result()
            return 0

        return run

    as_numpy = chunks_of(
        ArrayDownloadable({name: value.numpy() for name, value in updated.items()}, CHUNK_BYTES)
    )
    as_torch = chunks_of(TensorDownloadable(dict(updated), CHUNK_BYTES))
    return Cases(
        {
            "numpy, decoding included": mean_of(
                lambda: ArrayConsumer(None, {}).consume_items(as_numpy, None)
            ),
            "torch, decoding included": mean_of(
                lambda: TensorConsumer(None, {}).consume_items(as_torch, None)
            ),
        },
        limit=stream(lambda: updated, num_updates=num_updates),
        num_parameters=num_parameters(size),
    )
