"""The commands work on the database directly, print what can be piped, and refuse in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from edgeml_client import __version__
from edgeml_client.updates import digest_of, encode_model
from edgeml_server import EmbeddedServer
from edgeml_server.cli import app

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("EDGEML_SERVER_DATABASE_URL", f"sqlite:///{tmp_path / 'control-plane.db'}")
    monkeypatch.setenv("EDGEML_SERVER_BLOB_URL", (tmp_path / "blobs").as_uri())
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    return invoke


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(encode_model({"w": np.zeros(2, np.float32)}))
    return file


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize("arguments", [(), ("token",), ("model",), ("round",)])
def test_without_a_command_the_commands_are_listed(run: Run, arguments: tuple[str, ...]) -> None:
    assert "Commands" in run(*arguments).output


def test_migrate_brings_an_empty_database_up_to_date(run: Run) -> None:
    result = run("migrate")

    assert result.exit_code == 0
    assert "revision 0" in result.stderr


def test_a_created_token_is_all_that_is_printed_and_enrols_a_device(run: Run, tmp_path: Path) -> None:
    result = run("token", "create", "--org", "clinic-a", "--device-identifier", "mri-3", "--ttl-s", "60")

    token = result.stdout.strip()
    assert token.startswith("edgeml_bt_")
    assert "shown this once" in result.stderr
    with EmbeddedServer(tmp_path) as server:
        answer = httpx.post(
            f"{server.api_base}/device-auth/bootstrap",
            json={"org_id": "clinic-a", "device_identifier": "mri-3"},
            headers={"Authorization": f"Bearer {token}"},
        )
    assert answer.status_code == 200


def test_tokens_are_listed_and_revoked_by_id(run: Run) -> None:
    token = run("token", "create", "--org", "clinic-a", "--operator").stdout.strip()
    _, kind, token_id, secret = token.split("_")

    before = run("token", "list", "--org", "clinic-a").stdout
    revoked = run("token", "revoke", token_id, "--org", "clinic-a")
    after = run("token", "list", "--org", "clinic-a").stdout
    others = run("token", "list", "--org", "clinic-b").stdout

    assert kind == "op"
    assert revoked.exit_code == 0
    assert token_id in before
    assert token_id in after
    assert len(after) > len(before), "the list shows when it was revoked"
    assert secret not in before + after
    assert token_id not in others


def test_the_organization_may_come_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("migrate")
    monkeypatch.setenv("EDGEML_ORG_ID", "clinic-a")

    assert run("token", "list").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "list", "--org", "a"),
        ("token", "list", "--org", "a"),
        ("token", "revoke", "t", "--org", "a"),
        ("round", "list", "--org", "a"),
        ("round", "create", "digits", "--org", "a"),
    ],
)
def test_where_there_is_no_control_plane_that_is_said_and_none_is_made(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)

    assert result.exit_code == 1
    assert f"there is no control plane at sqlite:///{tmp_path / 'control-plane.db'}" in result.stderr
    assert "--database-url" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_holds_no_control_plane(tmp_path: Path, run: Run) -> None:
    (tmp_path / "control-plane.db").touch()

    assert "there is no control plane" in run("model", "list", "--org", "a").stderr


@pytest.mark.postgres
def test_a_password_is_not_shown(run: Run, postgres_url: str) -> None:
    url = make_url(postgres_url).set(password="hush-hush").render_as_string(hide_password=False)

    result = run("model", "list", "--org", "a", "--database-url", url)

    assert "there is no control plane at postgresql" in result.stderr
    assert "hush-hush" not in result.output


def test_a_model_is_created_uploaded_and_listed(run: Run, model_file: Path) -> None:
    created = run("model", "create", "digits", "--org", "clinic-a", "--description", "d")
    uploaded = run("model", "upload", "digits", str(model_file), "--org", "clinic-a", "--version", "2")
    listed = run("model", "list", "--org", "clinic-a")

    model_id = created.stdout.strip()
    assert uploaded.stdout.strip() == model_id
    row = listed.stdout.splitlines()[1].split()
    assert row == [model_id, "digits", "2", digest_of(model_file.read_bytes())]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("token", "revoke", "nothing", "--org", "a"), "error: there is no token 'nothing'"),
        (("token", "create", "--org", "a", "--scope", "admin"), "error: unknown scopes admin"),
        (("token", "create", "--org", "a", "--device-identifier", ""), "error: device_identifier:"),
        (("token", "create", "--org", "a", "--ttl-s", "99999999"), "error: ttl_s:"),
        (("model", "create", "", "--org", "a"), "error: name:"),
        (("model", "upload", "m", "/nowhere/x", "--org", "a"), "error: there is no file '/nowhere/x'"),
        (("model", "upload", "m", __file__, "--org", "a"), "error: this is no model to train"),
        (("migrate", "--database-url", "mysql://host/x"), "error: the database URL names 'mysql'"),
        (
            ("migrate", "--database-url", "postgresql://u@127.0.0.1:1/x"),
            "error: the database is busy",
        ),
        (("migrate", "--blob-url", "s3://bucket"), "error: the blob URL names s3://"),
        (("serve", "--port", "99999"), "error: the settings cannot work: port:"),
        (("serve", "--database-url", "nonsense"), "error: the database URL cannot be read"),
    ],
)
def test_a_refusal_is_one_line_and_a_status(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    run("migrate")

    result = run(*arguments)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in result.output


def test_a_setting_of_the_environment_that_cannot_work_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_SERVER_ACCESS_TTL_S", "7200")

    result = run("migrate")

    assert result.exit_code == 1
    assert "access_ttl_s" in result.stderr
