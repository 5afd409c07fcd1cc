"""NVFlare: from a trained state dict to the chunks of its streamed reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import from_shareable
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.decomposers import common_decomposers, numpy_decomposers
from nvflare.app_common.np.np_downloader import ArrayDownloadable
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.app_opt.pt.quantization.quantizer import ModelQuantizer
from nvflare.app_opt.pt.tensor_downloader import TensorDownloadable
from nvflare.fuel.utils import fobs

from benchmarks.cases.plain import Cases, fresh_subtract
from benchmarks.shapes import num_parameters, states

if TYPE_CHECKING:
    from nvflare.fuel.f3.streaming.cacheable import CacheableObject

__all__ = ["CHUNK_BYTES", "cases", "register"]

CHUNK_BYTES = 2 * 1024 * 1024
"""NVFlare's own chunk size."""


def register() -> None:
    """Teach NVFlare's serializer the arrays, as its clients do at start."""
    common_decomposers.register()
    numpy_decomposers.register()
    fobs.register(TensorDecomposer)


def _stream(source: CacheableObject) -> int:
    source.num_receivers = 1
    total, state = 0, None
    while True:
        _, chunk, state = source.produce(state, "receiver")
        if chunk is None:
            return total
        total += len(fobs.dumps({"data": chunk, "state": state}))


def _quantized(difference: dict[str, Any]) -> int:
    reply = FLModel(params_type=ParamsType.DIFF, params=difference, meta={"NUM_STEPS_CURRENT_ROUND": 1})
    shareable = ModelQuantizer("adaquant").process(FLModelUtils.to_shareable(reply), FLContext())
    coded = from_shareable(shareable)
    return len(fobs.dumps(coded.meta)) + _stream(ArrayDownloadable(coded.data, CHUNK_BYTES))


def cases(size: str) -> Cases:
    """Return its plain streams of the whole model, and its adaptive quantization of the difference."""
    register()
    base, updated = states(size)

    def arrays() -> dict[str, Any]:
        return {name: value.detach().cpu().numpy() for name, value in updated.items()}

    def difference() -> dict[str, Any]:
        return {name: updated[name].numpy() - base[name].numpy() for name in base}

    return Cases(
        {
            "plain stream, numpy": lambda: _stream(ArrayDownloadable(arrays(), CHUNK_BYTES)),
            "plain stream, torch": lambda: _stream(TensorDownloadable(dict(updated), CHUNK_BYTES)),
            "adaptive quantization of the difference": lambda: _quantized(difference()),
        },
        limit=fresh_subtract(base, updated),
        num_parameters=num_parameters(size),
    )
