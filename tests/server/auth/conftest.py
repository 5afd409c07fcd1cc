"""Enrolling and refreshing without HTTP, on both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from edgeml_client.schemas import BootstrapRequest, TokenResponse
from edgeml_client.testing import FakeClock
from edgeml_server.auth.issuing import TokenOrder, issue_bootstrap
from edgeml_server.auth.rules import ALL_SCOPES
from edgeml_server.auth.service import Refusal, TokenPolicy, bootstrap, refresh
from edgeml_server.db import Database

Enrol = Callable[..., TokenResponse]
Refresh = Callable[[SecretStr], TokenResponse | Refusal]

POLICY = TokenPolicy(access_ttl_s=900, refresh_ttl_s=30 * 24 * 3600, grace_s=30, key=b"k" * 32)


@pytest.fixture
def new_bootstrap_token(database: Database, clock: FakeClock) -> Callable[..., str]:
    def issue(**order: object) -> str:
        with database.unit_of_work() as work:
            issued = issue_bootstrap(
                work,
                "clinic-a",
                TokenOrder.model_validate(order),
                held=ALL_SCOPES,
                default_ttl_s=3600,
                now=clock.now(),
            )
        return issued.token.get_secret_value()

    return issue


@pytest.fixture
def enrol_with(database: Database, clock: FakeClock) -> Enrol:
    def enrol(token: str, device_identifier: str = "mri-3") -> TokenResponse:
        request = BootstrapRequest(org_id="clinic-a", device_identifier=device_identifier)
        with database.unit_of_work() as work:
            return bootstrap(work, token, request, policy=POLICY, now=clock.now())

    return enrol


@pytest.fixture
def refresh_with(database: Database, clock: FakeClock) -> Refresh:
    def refreshed(token: SecretStr) -> TokenResponse | Refusal:
        with database.unit_of_work() as work:
            return refresh(work, token, policy=POLICY, now=clock.now())

    return refreshed
