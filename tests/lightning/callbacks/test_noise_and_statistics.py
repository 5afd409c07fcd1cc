"""Noise never reaches a variance, whatever becomes of buffers: one below zero makes NaN of what follows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeml_lightning import FedAvg, FederatedCallback
from tests.lightning.federation import Federation, digits_of, loader, seeded, trainer

NOISE = {"type": "gaussian_noise", "noise_multiplier": 0.01}


@pytest.mark.parametrize("buffers", ["average", "local", "reset"])
def test_variances_travel_without_noise_or_not_at_all(federation: Federation, buffers: Any) -> None:
    """Noise of sigma = 0.01 * 1000 = 10 would leave 16 variances near 1 positive once in about 10**4 times.

    Of one device the next version is base + delta: under ``average`` its variances are those of the device.
    """
    federation.register_model(seeded())
    client = federation.enrol("device")
    federation.open_rounds(config={"clip_norm": 1000.0, "filters": [NOISE]})
    callback = FederatedCallback(client, model="digits", strategy=FedAvg(buffers=buffers), wait_s=30)
    module, before = seeded(), seeded().state_dict()

    trainer(callback).fit(module, loader(digits_of(0)))
    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)

    after, name = federation.global_state(), "body.1.running_var"
    expected = module.state_dict() if buffers == "average" else before
    torch.testing.assert_close(after[name], expected[name], rtol=1e-5, atol=1e-6)
    assert (after["body.0.weight"] - before["body.0.weight"]).std() > 5
    received = seeded()
    received.load_state_dict(after, strict=False)
    scores = received.eval()(digits_of(0).tensors[0])
    assert torch.isfinite(scores).all()
