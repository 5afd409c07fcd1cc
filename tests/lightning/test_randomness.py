"""Random streams can be borrowed and are given back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from edgeml_lightning.randomness import borrowed_randomness, capture_randomness


def draw() -> tuple[float, float, float]:
    return torch.rand(1).item(), np.random.rand(), random.uniform(0, 1)  # noqa: NPY002 - the streams under test


def test_a_borrowed_stream_repeats_and_the_real_one_goes_on() -> None:
    """What follows is the same whether or not something was drawn in between."""
    start = capture_randomness()
    expected = [draw(), draw()]

    with borrowed_randomness(start):
        first = draw()
        with borrowed_randomness(start):
            again = [draw(), draw()]
        second = draw()

    assert again == expected
    assert [first, second] == expected


def test_a_failure_gives_the_streams_back_too() -> None:
    start = capture_randomness()
    expected = [draw(), draw()]

    with borrowed_randomness(start):
        first = draw()
        with pytest.raises(ZeroDivisionError), borrowed_randomness(start):
            _ = draw()[0] / 0
        second = draw()

    assert [first, second] == expected
