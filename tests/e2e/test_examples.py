"""Every example runs by itself and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROMISES = {
    "one_callback.py": "The round is completed; the new global model is version 2.",
    "client_alone.py": "round 5:",
    "lightning_cli.py": "The saved config names the model, and no token: True",
    "custom_filter.py": "unchanged",
    "digits_table.py": "Ditto, lambda 0.05",
}
SHORTENED = {"digits_table.py": ["--devices", "3", "--rounds", "1"]}
HELPERS = {"digits.py", "quickstart_federations.py", "quickstart_picture.py", "quickstart_report.py"}
TESTED_ELSEWHERE = {"quickstart.py"}


def test_no_example_is_forgotten() -> None:
    found = {path.name for path in (ROOT / "examples").glob("*.py")}

    assert found == set(PROMISES) | HELPERS | TESTED_ELSEWHERE


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(PROMISES))
def test_an_example_runs_by_itself(name: str, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *SHORTENED.get(name, [])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert finished.returncode == 0, finished.stderr
    assert PROMISES[name] in finished.stdout
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind"
