"""train_ditto trains two models; only the shared one's change is for upload."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeml_client import FederatedClient
from edgeml_client.errors import ConfigurationError, ModelMismatchError, NonFiniteError
from edgeml_client.rounds import ProximalTerm, train_ditto
from edgeml_client.rounds.ditto import proximal_step

FEATURES = np.random.default_rng(0).standard_normal((20, 3))
TARGETS = FEATURES @ np.array([1.0, -2.0, 0.5]) + 0.1
RATE, STEPS, STRENGTH = 0.1, 7, 0.3


def _gradient(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    gradient: npt.NDArray[Any] = FEATURES.T @ (FEATURES @ weights - TARGETS) / len(TARGETS)
    return gradient


def _train(state: dict[str, Any], *, proximal: ProximalTerm | None) -> Any:
    for _ in range(STEPS):
        pull = 0.0 if proximal is None else proximal.gradient("w", state["w"])
        state["w"] -= RATE * (_gradient(state["w"]) + pull)
    return state, len(TARGETS), {"loss": 1.0}


def _train_plainly(state: dict[str, Any]) -> Any:
    return _train(state, proximal=None)


def test_both_models_follow_algorithm_1() -> None:
    """By hand: w <- w - eta g(w) and v <- v - eta (g(v) + lambda (v - w_received)), each from its start."""
    received, own = np.array([0.2, 0.1, 0.0]), np.array([1.0, 1.0, 1.0])
    shared, personal = received.copy(), own.copy()
    for _ in range(STEPS):
        shared -= RATE * _gradient(shared)
        personal -= RATE * (_gradient(personal) + STRENGTH * (personal - received))

    result = train_ditto({"w": received}, {"w": own}, _train, STRENGTH)

    np.testing.assert_allclose(result.global_update["w"], shared, rtol=1e-12)
    np.testing.assert_allclose(result.personal_update["w"], personal, rtol=1e-12)
    np.testing.assert_allclose(result.global_delta["w"], shared - received, rtol=1e-6)
    assert received.tolist() == [0.2, 0.1, 0.0]
    assert own.tolist() == [1.0, 1.0, 1.0]


def test_a_loop_without_the_keyword_is_followed_by_the_proximal_step() -> None:
    received, own = np.array([0.2, 0.1, 0.0]), np.array([1.0, 1.0, 1.0])
    trained = own.copy()
    for _ in range(STEPS):
        trained -= RATE * _gradient(trained)

    result = train_ditto({"w": received}, {"w": own}, _train_plainly, STRENGTH)

    np.testing.assert_allclose(
        result.personal_update["w"], (trained + STRENGTH * received) / (1 + STRENGTH), rtol=1e-12
    )


@pytest.mark.parametrize("strength", [0.0, 0.5, 1e6])
def test_the_proximal_step_minimises_its_objective(strength: float) -> None:
    """The gradient (u - v) + lambda (u - w) of the objective is zero at the result."""
    trained, anchor = (
        torch.tensor([1.0, -2.0], dtype=torch.float64),
        torch.tensor([3.0, 5.0], dtype=torch.float64),
    )

    result = proximal_step(
        {"w": trained, "n": torch.tensor(4)}, {"w": anchor, "n": torch.tensor(9)}, strength=strength
    )

    gradient = (result["w"] - trained) + strength * (result["w"] - anchor)
    assert gradient.abs().max() <= 1e-9 * (1 + strength)
    assert result["n"].item() == 4


def test_kinds_may_be_mixed_in_the_proximal_step() -> None:
    from_torch = proximal_step({"w": torch.zeros(1)}, {"w": np.array([2.0])}, strength=1.0)
    from_numpy = proximal_step({"w": np.zeros(1, np.float32)}, {"w": torch.tensor([2.0])}, strength=1.0)

    assert from_torch["w"].tolist() == from_numpy["w"].tolist() == [1.0]
    assert from_numpy["w"].dtype == np.float32


def test_a_result_unpacks_as_four_and_tells_more() -> None:
    result = train_ditto({"w": np.zeros(3)}, {"w": np.zeros(3)}, _train)

    global_update, personal_update, sample_count, metrics = result

    assert global_update is result.global_update is result[0]
    assert personal_update is result.personal_update
    assert (sample_count, metrics, len(result)) == (20, {"loss": 1.0}, 4)
    assert result.personal_metrics == {"loss": 1.0}


def test_strength_zero_is_local_training() -> None:
    start = {"w": np.ones(3)}

    result = train_ditto({"w": np.zeros(3)}, start, _train, 0.0)

    alone, _, _ = _train({"w": np.ones(3)}, proximal=None)
    assert result.personal_update["w"].tolist() == alone["w"].tolist()


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf"), "much", None])
def test_an_impossible_strength_is_refused_before_training(strength: Any) -> None:
    def never(_state: dict[str, Any]) -> Any:
        pytest.fail("training has begun")

    with pytest.raises(ConfigurationError, match="lambda_ditto must be a finite number of at least 0"):
        train_ditto({"w": np.zeros(1)}, {"w": np.zeros(1)}, never, strength)


def test_the_two_models_have_one_form() -> None:
    with pytest.raises(ModelMismatchError, match=r"w: expected shape \[2\], got \[3\]"):
        train_ditto({"w": np.zeros(2)}, {"w": np.zeros(3)}, _train)


def test_a_diverged_shared_model_is_an_error() -> None:
    with pytest.raises(NonFiniteError):
        train_ditto(
            {"w": np.zeros(1)}, {"w": np.zeros(1)}, lambda state: ({"w": state["w"] + np.inf}, 1, None)
        )


def test_the_client_offers_it_under_its_published_name() -> None:
    with FederatedClient(api_base="http://127.0.0.1:1/api/v1") as client:
        result = client.train_ditto(
            {"w": torch.zeros(2)}, {"w": torch.ones(2)}, lambda state: (state, 1, {}), 1.0
        )

    assert result.personal_update["w"].tolist() == [0.5, 0.5]
