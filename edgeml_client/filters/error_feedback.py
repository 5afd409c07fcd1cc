"""Carrying over what an update leaves out."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import FilterEffects, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.vector import DeltaVector

__all__ = ["ErrorFeedbackFilter"]


class NoParameters(FilterParameters):
    """None."""


class ErrorFeedbackFilter(VectorFilter):
    r"""``error_feedback``: what the filters behind it drop is kept, and added next round.

    Seide et al., 2014 (section 4); Karimireddy et al., 2019 (https://arxiv.org/abs/1901.09847, Algorithm 1):
    with the residual :math:`e`, the device sends :math:`\hat x = C(\Delta + e)` and keeps
    :math:`\Delta + e - \hat x`. It stands directly before the ``sparsification``, ``low_rank`` or
    ``quantization`` that ends a round's filters. The residual lies on the device between rounds, so this
    filter works in :meth:`DeviceRound.submit` alone. A ``gradient_clip`` before it bounds what training adds
    to the residual, not what is sent.
    """

    filter_type = "error_feedback"
    parameters_type = NoParameters
    effects = FilterEffects(sparsity=Sparsity.FILLS)

    def __init__(self) -> None:
        super().__init__()

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Refuse to run outside a round.

        Raises:
            FilterConfigError: Always.
        """
        raise FilterConfigError(
            "filter 'error_feedback' keeps a residual between rounds: use it in a round's filters, directly "
            "before the 'sparsification', 'low_rank' or 'quantization' that ends them"
        )
