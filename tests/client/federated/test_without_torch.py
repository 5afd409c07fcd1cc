"""A device without torch takes part with NumPy alone."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
import edgeml_client
from edgeml_client import FederatedClient, apply_filters, compute_state_dict_delta
from edgeml_client.updates import GlobalModel, encode_model

state = {"body.w": np.ones((2, 2), np.float32), "head.w": np.ones(1), "steps": np.array(3)}
model = GlobalModel(encode_model(state))
trained = {name: array + 1 for name, array in model.state().items()}
delta = compute_state_dict_delta(model.state(), trained)
apply_filters(delta, [
    {"type": "gradient_clip", "max_norm": 1.0},
    {"type": "norm_validation", "max_norm": 10.0},
    {"type": "sparsification", "top_k": 0.5},
    {"type": "gaussian_noise", "sigma": 0.1},
    {"type": "quantization", "bits": 8},
])
with FederatedClient(api_base="http://127.0.0.1:9/api/v1") as client:
    client.train_ditto(state, state, lambda state: (state, 1, None))
    client.train_fedper(state, ["head"], lambda state: (state, 1, None))
imported = {name for name, module in sys.modules.items() if module is not None}
unwanted = {"torch", "lightning", "fastapi", "edgeml_server", "edgeml_lightning"} & imported
sys.exit(f"imported: {unwanted}" if unwanted else 0)
"""


@pytest.mark.parametrize("prelude", ["", "import sys; sys.modules['torch'] = None\n"])
def test_nothing_of_torch_is_imported_or_needed(prelude: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + PROGRAM], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
