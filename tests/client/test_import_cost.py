from __future__ import annotations

import json
import subprocess
import sys

import edgeml_client

HEAVY = (
    "torch",
    "lightning",
    "edgeml_lightning",
    "edgeml_server",
    "sqlalchemy",
    "fastapi",
    "pandas",
    "sklearn",
)

PROBE = """
import json, sys, time
before = time.process_time()
{statement}
cost_s = time.process_time() - before
print(json.dumps({{"cost_s": cost_s, "modules": sorted(sys.modules)}}))
"""


def probe(statement: str) -> tuple[float, set[str]]:
    """Return the CPU seconds a statement costs in a fresh process, and what it imported."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found["cost_s"], set(found["modules"])


def test_importing_the_package_is_cheap_and_pulls_in_nothing_heavy() -> None:
    cost_s, modules = probe("import edgeml_client")

    assert modules.isdisjoint(HEAVY)
    assert cost_s < 0.5


def test_everything_public_can_be_had_without_torch_and_the_server() -> None:
    _, modules = probe(
        "import edgeml_client\nfor name in edgeml_client.__all__: getattr(edgeml_client, name)"
    )

    assert modules.isdisjoint(HEAVY)


def test_every_public_name_is_there_and_listed() -> None:
    assert sorted(edgeml_client.__all__) == edgeml_client.__all__
    for name in edgeml_client.__all__:
        assert getattr(edgeml_client, name) is not None
    assert set(edgeml_client.__all__) <= set(dir(edgeml_client))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(edgeml_client, "NoSuchThing")
