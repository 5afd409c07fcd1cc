"""Who knows the published SDK finds every name, with the parameters in the order they know."""

from __future__ import annotations

import inspect
from typing import Any

import edgeml
import pytest

import edgeml_client

CLASSES = [
    "DeviceAuthClient",
    "EdgeML",
    "ExperimentsAPI",
    "FederatedAnalyticsAPI",
    "FederatedClient",
    "Federation",
    "ModelRegistry",
    "RolloutsAPI",
]

# Training outside of rounds is not offered: an update without a round has no base to be checked against.
NOT_OFFERED = {
    ("FederatedClient", "get_model_architecture"),
    ("FederatedClient", "train"),
    ("FederatedClient", "train_from_remote"),
}


def published_methods(name: str) -> dict[str, inspect.Signature]:
    """Return the public methods of a class of the published SDK, and its constructor."""
    members = inspect.getmembers(getattr(edgeml, name), inspect.isfunction)
    return {
        method: inspect.signature(function)
        for method, function in members
        if method == "__init__" or not method.startswith("_")
    }


CALLS = [
    (name, method, signature)
    for name in CLASSES
    for method, signature in published_methods(name).items()
    if (name, method) not in NOT_OFFERED
]


@pytest.mark.parametrize(("name", "method", "published"), CALLS, ids=str)
def test_a_published_method_keeps_its_name_and_its_parameters(
    name: str, method: str, published: inspect.Signature
) -> None:
    ours = inspect.signature(getattr(getattr(edgeml_client, name), method))

    def shape(signature: inspect.Signature) -> list[tuple[str, Any]]:
        return [(parameter.name, parameter.kind) for parameter in signature.parameters.values()]

    missing = [parameter for parameter in shape(published) if parameter not in shape(ours)]
    assert missing == []
    positional = [entry for entry in shape(published) if entry[1] is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert shape(ours)[: len(positional)] == positional
