"""Health is about the process, readiness about what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from edgeml_client import __version__
from edgeml_server import EmbeddedServer


def test_health_needs_no_token_and_announces_what_is_understood(server: EmbeddedServer) -> None:
    answer = httpx.get(f"{server.url}/health").json()

    assert (answer["status"], answer["version"]) == ("ok", __version__)
    assert "models.safetensors" in answer["capabilities"]


def test_a_control_plane_with_database_and_files_is_ready(server: EmbeddedServer) -> None:
    answer = httpx.get(f"{server.url}/ready")

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_a_control_plane_without_its_files_is_alive_but_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(tmp_path) as server:
        shutil.rmtree(tmp_path / "blobs")

        ready = httpx.get(f"{server.url}/ready")
        health = httpx.get(f"{server.url}/health")

    assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
    assert "not ready" in caplog.text
    assert health.status_code == 200
