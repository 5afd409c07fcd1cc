"""Device auth over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from edgeml_client.schemas import TokenResponse
from edgeml_client.testing import FakeClock
from edgeml_server import EmbeddedServer
from edgeml_server.auth.tokens import TokenKind, draw_token


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def timed(clock: FakeClock) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=clock) as running:
        yield running


@pytest.fixture
def body(org: str) -> dict[str, Any]:
    return {"org_id": org, "device_identifier": "mri-3"}


@pytest.fixture
def device(timed: EmbeddedServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=timed.api_base) as client:
        yield client


def test_enrolment_answers_the_token_state(
    timed: EmbeddedServer, device: httpx.Client, clock: FakeClock, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)

    answer = device.post("/device-auth/bootstrap", json=body, headers=bearer(token))

    assert answer.status_code == 200
    state = TokenResponse.model_validate_json(answer.content)
    assert (state.org_id, state.device_identifier, state.scopes) == (org, "mri-3", ("devices:write",))
    assert state.token_type == "Bearer"
    assert state.expires_at == clock.now() + timedelta(minutes=15)


def test_an_access_token_may_live_an_hour_and_no_longer(
    timed: EmbeddedServer, device: httpx.Client, clock: FakeClock, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)

    refused = device.post(
        "/device-auth/bootstrap", json=body | {"access_ttl_seconds": 3601}, headers=bearer(token)
    )
    answer = device.post(
        "/device-auth/bootstrap", json=body | {"access_ttl_seconds": 3600}, headers=bearer(token)
    )

    assert refused.status_code == 422
    assert "access_ttl_seconds" in refused.json()["detail"]
    state = TokenResponse.model_validate_json(answer.content)
    assert state.expires_at == clock.now() + timedelta(hours=1)


def test_an_access_token_opens_calls_until_it_expires(
    timed: EmbeddedServer, device: httpx.Client, clock: FakeClock, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)
    state = device.post("/device-auth/bootstrap", json=body, headers=bearer(token)).json()

    fresh = device.get("/models", headers=bearer(state["access_token"]))
    clock.advance(900)
    expired = device.get("/models", headers=bearer(state["access_token"]))

    assert fresh.status_code == 200
    assert (expired.status_code, expired.json()["detail"]) == (
        401,
        "the access token has expired; refresh it",
    )


def test_revoking_ends_every_token_of_the_device_at_once(
    timed: EmbeddedServer, device: httpx.Client, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)
    state = device.post("/device-auth/bootstrap", json=body, headers=bearer(token)).json()

    answer = device.post(
        "/device-auth/revoke", json={"refresh_token": state["refresh_token"], "reason": "lost"}
    )

    assert (answer.status_code, answer.content) == (204, b"")
    assert device.get("/models", headers=bearer(state["access_token"])).status_code == 401
    again = device.post("/device-auth/refresh", json={"refresh_token": state["refresh_token"]})
    assert again.status_code == 401


@pytest.mark.parametrize("token", ["nonsense", draw_token(TokenKind.REFRESH).text])
def test_revoking_a_token_nobody_has_succeeds_for_it_is_revoked(device: httpx.Client, token: str) -> None:
    assert device.post("/device-auth/revoke", json={"refresh_token": token}).status_code == 204


def test_a_revoked_device_enrols_again_with_a_new_token(
    timed: EmbeddedServer, device: httpx.Client, body: dict[str, Any], org: str
) -> None:
    first = timed.create_bootstrap_token(org_id=org)
    state = device.post("/device-auth/bootstrap", json=body, headers=bearer(first)).json()
    device.post("/device-auth/revoke", json={"refresh_token": state["refresh_token"]})
    second = timed.create_bootstrap_token(org_id=org)

    assert device.post("/device-auth/bootstrap", json=body, headers=bearer(second)).status_code == 200


def test_refreshing_over_http_answers_the_successor(
    timed: EmbeddedServer, device: httpx.Client, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)
    state = device.post("/device-auth/bootstrap", json=body, headers=bearer(token)).json()

    answer = device.post("/device-auth/refresh", json={"refresh_token": state["refresh_token"]})
    again = device.post("/device-auth/refresh", json={"refresh_token": state["refresh_token"]})

    assert answer.status_code == 200
    assert answer.json()["refresh_token"] != state["refresh_token"]
    assert again.json() == answer.json()
    assert device.get("/models", headers=bearer(answer.json()["access_token"])).status_code == 200


def test_a_used_token_is_refused_once_the_answer_cannot_be_lost_any_more(
    timed: EmbeddedServer, device: httpx.Client, clock: FakeClock, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)
    first = device.post("/device-auth/bootstrap", json=body, headers=bearer(token))
    clock.advance(31)

    again = device.post("/device-auth/bootstrap", json=body, headers=bearer(token))

    assert first.status_code == 200
    assert again.status_code == 401
    assert "used already" in again.json()["detail"]
    assert device.get("/models", headers=bearer(first.json()["access_token"])).status_code == 200


def test_an_expired_bootstrap_token_is_refused(
    timed: EmbeddedServer, device: httpx.Client, clock: FakeClock, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org, ttl_s=60)
    clock.advance(60)

    answer = device.post("/device-auth/bootstrap", json=body, headers=bearer(token))

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_another_organizations_id_is_not_found(
    timed: EmbeddedServer, device: httpx.Client, body: dict[str, Any], org: str
) -> None:
    token = timed.create_bootstrap_token(org_id=org)

    answer = device.post("/device-auth/bootstrap", json=body | {"org_id": "clinic-b"}, headers=bearer(token))

    assert answer.status_code == 404
    assert "clinic-b" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {draw_token(TokenKind.BOOTSTRAP).text}"},
        {"Authorization": f"Bearer {draw_token(TokenKind.ACCESS).text}"},
        {"Authorization": f"Bearer {draw_token(TokenKind.OPERATOR).text}"},
    ],
)
@pytest.mark.parametrize("call", ["bootstrap", "models"])
def test_without_a_good_token_nothing_opens(
    http: httpx.Client, headers: dict[str, str], call: str, body: dict[str, Any]
) -> None:
    answer = (
        http.post("/device-auth/bootstrap", json=body, headers=headers)
        if call == "bootstrap"
        else http.get("/models", headers=headers)
    )

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"


def test_a_bootstrap_token_opens_nothing_but_enrolment(
    server: EmbeddedServer, http: httpx.Client, org: str
) -> None:
    token = server.create_bootstrap_token(org_id=org)

    assert http.get("/models", headers=bearer(token)).status_code == 401


def test_a_device_token_opens_no_operators_call(enrol: Callable[..., httpx.Client]) -> None:
    device = enrol()

    answer = device.post("/models", json={"name": "digits"})

    assert answer.status_code == 403
    assert "models:write" in answer.json()["detail"]
