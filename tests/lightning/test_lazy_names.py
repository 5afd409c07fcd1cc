"""The package itself needs neither torch nor lightning; its names say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgeml_lightning


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, edgeml_lightning; print({'torch', 'lightning', 'torchmetrics'} & set(sys.modules))"

    assert run(code) == "set()"


@pytest.mark.parametrize("absent", ["torch", "lightning", "torchmetrics"])
def test_a_name_whose_extra_is_absent_says_what_to_install(absent: str) -> None:
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from edgeml_client.errors import MissingExtraError\n"
        "import edgeml_lightning\n"
        "try: edgeml_lightning.FederatedCallback\n"
        "except MissingExtraError as error: print(error)"
    )

    assert run(code).endswith("pip install 'edgeml-lightning[lightning]'")


def test_every_public_name_exists() -> None:
    for name in edgeml_lightning.__all__:
        assert getattr(edgeml_lightning, name) is not None
    assert set(dir(edgeml_lightning)) == set(edgeml_lightning.__all__)


def test_other_names_do_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FedSGD'"):
        _ = edgeml_lightning.FedSGD
