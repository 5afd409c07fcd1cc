"""A model to version, and files to version it with."""

from __future__ import annotations

import io
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import torch

from edgeml_client.updates import encode_model

STATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(3, np.int64)}


@pytest.fixture
def model(operator: httpx.Client) -> str:
    """The path of a model without versions."""
    return f"/models/{operator.post('/models', json={'name': 'digits'}).json()['id']}"


@pytest.fixture
def model_file() -> bytes:
    """A safetensors file of two arrays."""
    return encode_model(STATE)


@pytest.fixture
def torch_file() -> bytes:
    """The same, as torch saves it."""
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in STATE.items()}, stream)
    return stream.getvalue()


@pytest.fixture
def upload(operator: httpx.Client, model: str) -> Callable[..., httpx.Response]:
    """A function that uploads a file as a version."""

    def send(content: bytes, file_name: str, version: str = "1", **fields: str) -> httpx.Response:
        return operator.post(
            f"{model}/versions/upload",
            data={"version": version, **fields},
            files={"file": (file_name, content)},
        )

    return send
