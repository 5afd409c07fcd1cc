"""``edgeml-server round`` as operators run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edgeml_server import EmbeddedServer
from edgeml_server.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a control plane that has a model of clinic-a."""
    with EmbeddedServer(tmp_path) as server:
        server.register_model(org_id="clinic-a", name="digits", state={"w": np.zeros(2, np.float32)})
    monkeypatch.setenv("EDGEML_SERVER_DATABASE_URL", f"sqlite:///{tmp_path / 'control-plane.db'}")
    monkeypatch.setenv("EDGEML_SERVER_BLOB_URL", (tmp_path / "blobs").as_uri())
    return lambda *arguments: CliRunner().invoke(app, ["round", *arguments])


def test_a_round_is_created_listed_shown_and_cancelled(run: Run) -> None:
    options = ["--num-rounds", "3", "--min-updates", "2", "--config", '{"proximal_mu": 0.5}']
    created = run("create", "digits", "--org", "clinic-a", *options)
    round_id = created.stdout.strip()

    listed = run("list", "--org", "clinic-a")
    others = run("list", "--org", "clinic-b")
    shown = json.loads(run("show", round_id).stdout)
    cancelled = run("cancel", round_id)
    active = run("list", "--org", "clinic-a", "--status", "active")

    assert "round 1 of 3 is selecting, from version 1" in created.stderr
    assert round_id in listed.stdout
    assert "1/3" in listed.stdout
    assert round_id not in others.stdout
    assert (shown["min_updates"], shown["config"]["proximal_mu"]) == (2, 0.5)
    assert cancelled.stderr == f"{round_id} is abandoned: an operator cancelled it\n"
    assert round_id not in active.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("create", "nothing", "--org", "clinic-a"),
            "`edgeml-server model list`",
        ),
        (("create", "digits", "--org", "clinic-b"), "there is no model 'digits'"),
        (("create", "digits", "--org", "clinic-a", "--config", "{"), "--config is not JSON"),
        (("create", "digits", "--org", "clinic-a", "--config", '{"mu": 1}'), "unknown keys mu"),
        (("create", "digits", "--org", "clinic-a", "--num-rounds", "0"), "num_rounds"),
        (("create", "digits", "--org", "clinic-a", "--norm-bound", "mean"), "norm_bound"),
        (("list", "--org", "clinic-a", "--status", "asleep"), "status is 'asleep'"),
        (("show", "none"), "there is no round 'none'; `edgeml-server round list`"),
        (("cancel", "none"), "there is no round 'none'"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(*arguments)

    assert result.exit_code == 1
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
