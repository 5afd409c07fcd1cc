"""train_fedper trains everything and returns the body's change alone."""

from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client import FederatedClient
from edgeml_client.errors import ConfigurationError, ModelMismatchError
from edgeml_client.rounds import private_names, train_fedper

NAMES = ["bn1.weight", "bn10.weight", "head.0.bias", "head.0.weight", "header.weight", "scale"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["bn1"], ("bn1.weight",)),
        (["head"], ("head.0.bias", "head.0.weight")),
        (["head.0.bias", "scale"], ("head.0.bias", "scale")),
        ([], ()),
    ],
)
def test_whole_path_segments_count(layers: list[str], expected: tuple[str, ...]) -> None:
    assert private_names(NAMES, layers) == expected


@pytest.mark.parametrize("layer", ["bn", "head.1", "head.", "", "weight"])
def test_a_layer_that_matches_nothing_is_refused_with_the_paths_there_are(layer: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"matches nothing; the module paths are: bn1, bn10, head, head\.0, header"
    ):
        private_names(NAMES, [layer])


def test_one_name_is_not_a_list_of_names() -> None:
    with pytest.raises(ConfigurationError, match=r"such as \['head'\]"):
        private_names(NAMES, "head")


def test_the_head_is_trained_but_not_in_the_delta() -> None:
    model = {"body.w": torch.zeros(2), "head.w": torch.zeros(2), "body.steps": torch.tensor(0)}
    kept: dict[str, Any] = {}

    def train(state: dict[str, Any]) -> Any:
        for name in state:
            state[name] += 1
        kept.update(state)
        return state, 8, {"loss": 0.5}

    delta, sample_count, metrics = train_fedper(model, ["head"], train)

    assert {name: change.tolist() for name, change in delta.items()} == {"body.w": [1, 1]}
    assert kept["head.w"].tolist() == [1, 1]
    assert model["body.w"].tolist() == [0, 0]
    assert (sample_count, metrics) == (8, {"loss": 0.5})


def test_something_must_be_left_to_share() -> None:
    with pytest.raises(ConfigurationError, match="whole model"):
        train_fedper({"head.w": np.zeros(1)}, ["head"], lambda state: (state, 1, None))


def test_training_must_return_the_whole_model() -> None:
    with pytest.raises(ModelMismatchError, match=r"missing head\.w"):
        train_fedper(
            {"w": np.zeros(1), "head.w": np.zeros(1)}, ["head"], lambda state: ({"w": state["w"]}, 1, None)
        )


def test_the_client_offers_it_under_its_published_name() -> None:
    with FederatedClient(api_base="http://127.0.0.1:1/api/v1") as client:
        delta, _, _ = client.train_fedper(
            {"w": np.zeros(1), "head.w": np.zeros(1)}, ["head"], lambda state: (state, 1, {})
        )

    assert set(delta) == {"w"}
