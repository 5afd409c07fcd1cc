"""A subclass of a built-in filter that overrides ``process`` is asked to process, in every pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml_client import FilterRegistry, apply_filters
from edgeml_client.filters import GaussianNoiseFilter, GradientClipFilter, SparsificationFilter

DELTA = {"w": np.array([3.0, 4.0])}


class KeepsBiases(GradientClipFilter):
    """Clips, and then leaves nothing of a bias."""

    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        """Return the clipped update without biases."""
        clipped = super().process(delta, config)
        return {name: array * 0 if name.endswith("bias") else array for name, array in clipped.items()}


class LoggedNoise(GaussianNoiseFilter):
    """Tells how much noise it adds."""

    seen: float | None = None

    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        """Note the standard deviation, then add the noise."""
        type(self).seen = self.sigma
        return super().process(delta, config)


class LoggedSelection(SparsificationFilter):
    """Processes as its base does."""

    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        """Return what the base selects."""
        return super().process(delta, config)


def test_what_it_returns_is_the_result() -> None:
    """The bias is dropped, so zeros are added: the clip says so no longer, and declares it."""
    own = KeepsBiases(10.0)
    own.effects = GradientClipFilter.effects

    filtered = apply_filters({**DELTA, "bias": np.array([1.0])}, [own])

    assert filtered["bias"].tolist() == [0]
    assert filtered["w"].tolist() == [3, 4]


def test_it_knows_the_clip_before_it_also_when_a_config_asked_for_it() -> None:
    """The noise is calibrated to 0.5 * 2, which its config entry alone does not say."""
    FilterRegistry.register("logged_noise", LoggedNoise)
    clip = {"type": "gradient_clip", "max_norm": 2.0}

    try:
        apply_filters(DELTA, [clip, {"type": "logged_noise", "noise_multiplier": 0.5}])
    finally:
        FilterRegistry.unregister("logged_noise")

    assert LoggedNoise.seen == 1.0


def test_it_works_as_of_the_round() -> None:
    """Random selection depends on the round; a subclass selects what its base does."""
    delta = {"w": np.arange(1.0, 101.0)}
    base = SparsificationFilter(random_k=0.1, seed=3)
    own = LoggedSelection(random_k=0.1, seed=3)

    chosen = [apply_filters(delta, [step.for_round("r-7")])["w"].tolist() for step in (base, own)]

    assert chosen[0] == chosen[1] != apply_filters(delta, [base])["w"].tolist()
