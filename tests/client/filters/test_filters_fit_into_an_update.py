"""Filters whose parameters an update could not tell of are refused before training, not after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import resolve_announced, resolve_filters
from edgeml_client.schemas import RoundConfig
from edgeml_client.updates import encode_update, open_update
from edgeml_client.updates.arrays import layout_of
from tests.envelopes import envelope

MEGABYTE: dict[str, Any] = {"type": "exclude", "names": ["body.*"] * 120_000}
DELTA = {"w": np.ones(1, np.float32)}


def test_a_megabyte_of_names_is_refused_where_a_round_or_a_user_asks_for_it() -> None:
    message = r"take \d{7} bytes in an update, most of them 'exclude'; at most 49152 fit: name modules"

    with pytest.raises(FilterConfigError, match=message):
        resolve_announced(RoundConfig(clip_norm=1.0, filters=(MEGABYTE,)))
    with pytest.raises(FilterConfigError, match=message):
        resolve_filters([MEGABYTE])


def test_the_filters_of_the_round_and_of_the_user_count_together() -> None:
    half = {"type": "only", "names": ["w" * 30_000]}
    behind = resolve_filters([half])

    with pytest.raises(FilterConfigError, match="at most 49152 fit"):
        resolve_filters([half], behind=behind)


@pytest.mark.parametrize("name", ["w", "\\", '"', "\u00e9", "\U0001f600", "\n"])
def test_what_is_let_through_fits_into_an_update_of_the_smallest_model(name: str) -> None:
    """However its characters are escaped: the list is grown until one more name is refused."""
    fitting, refused = 1, 60_000
    while refused - fitting > 1:
        middle = (fitting + refused) // 2
        try:
            resolve_filters([{"type": "only", "names": [name] * middle}])
            fitting = middle
        except FilterConfigError:
            refused = middle
    (step,) = resolve_filters([{"type": "only", "names": [name] * fitting}])
    header = envelope(
        round_id="r" * 36,
        model_id="m" * 36,
        base_digest="sha256:" + "0" * 64,
        device_id="d" * 36,
        metrics={f"metric_{number}": 0.1 for number in range(100)},
        filters=(step.for_upload(),),
    )

    update = open_update(encode_update(header, DELTA), layout_of(DELTA))

    assert update.header == header
