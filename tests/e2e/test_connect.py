"""A device that enrolled once connects with nothing but its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeml_client import DeviceAuthClient, FederatedClient, connect
from edgeml_client.errors import ConfigurationError, NotEnrolledError, UnauthorizedError
from edgeml_server import EmbeddedServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("EDGEML_ORG_ID", "clinic-a")
    monkeypatch.setenv("EDGEML_DEVICE_ID", "mri-3")
    monkeypatch.setenv("EDGEML_TOKEN_STORAGE", "file")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return monkeypatch


def test_the_tokens_come_from_the_store_that_the_device_enrolled_into(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with EmbeddedServer() as server:
        environment.setenv("EDGEML_API_BASE", server.api_base)
        auth = DeviceAuthClient(base_url=server.url, org_id="clinic-a", device_identifier="mri-3")
        auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id="clinic-a"))

        with connect(state_dir=tmp_path) as client:
            device_id = client.register()

        assert device_id.startswith("dev_")


def test_a_device_that_never_enrolled_is_told_so(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("EDGEML_API_BASE", "http://127.0.0.1:9/api/v1")

    with connect(state_dir=tmp_path) as client, pytest.raises(NotEnrolledError, match="bootstrap"):
        client.register()


def test_an_environment_that_names_no_device_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("EDGEML_DEVICE_ID")

    with pytest.raises(ConfigurationError, match="EDGEML_DEVICE_ID is not set"):
        connect()


def test_a_client_without_tokens_is_told_where_they_come_from(tmp_path: Path) -> None:
    with (
        EmbeddedServer() as server,
        FederatedClient(api_base=server.api_base, org_id="clinic-a", state_dir=tmp_path) as client,
        pytest.raises(
            UnauthorizedError, match=r"auth_token_provider=.*or make it with edgeml_client.connect"
        ),
    ):
        client.register()
