"""A refused update loses its own round, and nothing of the rounds before it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from edgeml_client.filters import resolve_filters
from edgeml_client.resources.update_making import make_update
from edgeml_client.updates import DeltaVector, open_update
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.outbox import Outbox, PendingUpdate
from tests.envelopes import envelope

SIZE = 40
STEPS = resolve_filters([{"type": "error_feedback"}, {"type": "sparsification", "top_k": 0.25}])
LAYOUT = DeltaVector.of({"w": np.zeros(SIZE, np.float32)}).layout


def delta(round_number: int) -> Float32Array:
    """Whole numbers, so that all sums are exact."""
    return np.random.default_rng(round_number).integers(-50, 51, SIZE).astype(np.float32)


def store(outbox: Outbox, round_number: int) -> PendingUpdate:
    made = make_update(
        {"w": delta(round_number)},
        STEPS,
        header_for=lambda trail: envelope(round_id=f"r-{round_number}", filters=trail),
        layout=LAYOUT,
        residuals=outbox.residuals,
        allow_coded=True,
    )
    return outbox.put(made.data, left_out=made.left_out)


def deliver(outbox: Outbox, update: PendingUpdate) -> Float32Array:
    """Return what the control plane receives."""
    ((_, array),) = open_update(update.path.read_bytes(), LAYOUT).arrays()
    outbox.remove(update)
    return array


def kept(outbox: Outbox) -> Float32Array:
    numbers = np.zeros(SIZE, np.float32)
    outbox.residuals.open(LAYOUT, model_id="m", round_id="after").add_to_(numbers, start=0)
    return numbers


def test_a_refused_update_takes_nothing_of_earlier_rounds_with_it(tmp_path: Path) -> None:
    """The second of three is refused: what arrives and what is kept are the first and the third, exactly."""
    outbox = Outbox(tmp_path)
    first = deliver(outbox, store(outbox, 1))
    after_first = kept(outbox)
    refused = outbox.refuse(store(outbox, 2), reason="too late")
    after_refusal = kept(outbox)
    third = deliver(outbox, store(outbox, 3))

    assert refused == tmp_path / "rejected" / "r-2.update"
    assert np.any(after_first != 0)
    np.testing.assert_array_equal(after_refusal, after_first)
    np.testing.assert_array_equal(first + third + kept(outbox), delta(1) + delta(3))


def test_the_first_update_may_be_refused_and_made_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.refuse(store(outbox, 1), reason="a test")

    np.testing.assert_array_equal(kept(outbox), np.zeros(SIZE))
    np.testing.assert_array_equal(deliver(outbox, store(outbox, 1)) + kept(outbox), delta(1))


def test_a_device_that_dies_before_it_sets_the_update_aside_takes_the_residual_back_once(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path)
    first = deliver(outbox, store(outbox, 1))
    refused = store(outbox, 2)
    assert outbox.residuals.take_back("m", update_digest=f"sha256:{refused.sha256.hex()}")

    (again,) = Outbox(tmp_path).pending()
    outbox.refuse(again, reason="too late")

    np.testing.assert_array_equal(first + kept(outbox), delta(1))


def test_what_another_update_builds_on_is_lost_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path)
    refused, followed = store(outbox, 1), store(outbox, 2)
    before = kept(outbox)

    with caplog.at_level(logging.WARNING):
        outbox.refuse(refused, reason="too late")

    assert "r-1.update carried of earlier rounds is lost" in caplog.text
    np.testing.assert_array_equal(kept(outbox), before)
    assert outbox.pending() == (followed,)


def test_an_update_that_is_not_there_any_more_is_not_refused(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    update = store(outbox, 1)
    outbox.remove(update)

    assert outbox.refuse(update, reason="too late") is None
    assert np.any(kept(outbox) != 0)
