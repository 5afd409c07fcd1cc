"""Without the extra, the package says how to get it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("absent", ["uvicorn", "sqlalchemy", "fastapi"])
def test_an_absent_dependency_is_named_with_the_command_that_installs_it(absent: str) -> None:
    program = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from edgeml_client.errors import MissingExtraError\n"
        "try: import edgeml_server\n"
        "except MissingExtraError as error: print(error)"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert "pip install 'edgeml-lightning[server]'" in printed
