"""What operators do with tokens."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgeml_server import EmbeddedServer
from edgeml_server.auth.rules import ALL_SCOPES
from edgeml_server.errors import InvalidContentError

BODY = {"device_identifier": "mri-3"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_an_operator_issues_a_token_with_which_a_device_enrols(
    operator: httpx.Client, http: httpx.Client, org: str
) -> None:
    issued = operator.post("/tokens", json={"device_identifier": "mri-3"})

    assert issued.status_code == 201
    token = issued.json()["token"]
    answer = http.post("/device-auth/bootstrap", json=BODY | {"org_id": org}, headers=bearer(token))
    assert answer.status_code == 200


def test_a_reusable_token_enrols_device_after_device(
    operator: httpx.Client, http: httpx.Client, org: str
) -> None:
    token = operator.post("/tokens", json={"single_use": False}).json()["token"]

    for name in ("a", "b", "c"):
        body = {"org_id": org, "device_identifier": name}
        assert http.post("/device-auth/bootstrap", json=body, headers=bearer(token)).status_code == 200


def test_tokens_are_listed_without_their_secrets(operator: httpx.Client) -> None:
    issued = operator.post("/tokens", json={}).json()

    listed = operator.get("/tokens")

    kinds = {entry["id"]: entry["kind"] for entry in listed.json()["tokens"]}
    assert kinds[issued["id"]] == "bootstrap"
    assert "operator" in kinds.values()
    assert issued["token"].rsplit("_", 1)[1] not in listed.text


def test_a_revoked_bootstrap_token_enrols_nobody(
    operator: httpx.Client, http: httpx.Client, org: str
) -> None:
    issued = operator.post("/tokens", json={}).json()

    assert operator.delete(f"/tokens/{issued['id']}").status_code == 204

    answer = http.post("/device-auth/bootstrap", json=BODY | {"org_id": org}, headers=bearer(issued["token"]))
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]


def test_a_revoked_operator_token_opens_nothing(
    server: EmbeddedServer, operator: httpx.Client, org: str
) -> None:
    other = server.create_operator_token(org_id=org)
    other_id = other.split("_")[2]

    assert operator.delete(f"/tokens/{other_id}").status_code == 204

    assert operator.get("/models", headers=bearer(other)).status_code == 401
    assert operator.get("/models").status_code == 200


def test_another_organizations_token_cannot_be_revoked_nor_told_from_one_that_does_not_exist(
    server: EmbeddedServer, operator: httpx.Client
) -> None:
    foreign = server.create_bootstrap_token(org_id="somebody-else").split("_")[2]

    assert operator.delete(f"/tokens/{foreign}").status_code == 404
    assert operator.delete("/tokens/nothing").status_code == 404


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ({"scopes": ["everything"]}, "unknown scopes everything"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"device_identifier": ""}, "device_identifier"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_order_that_cannot_work_says_which_field(
    operator: httpx.Client, order: dict[str, object], found: str
) -> None:
    answer = operator.post("/tokens", json=order)

    assert answer.status_code == 422
    assert found in answer.json()["detail"]


def test_nobody_grants_more_than_they_hold(
    server: EmbeddedServer, enrol: Callable[..., httpx.Client], org: str
) -> None:
    token = server.create_bootstrap_token(org_id=org, scopes=("tokens:write",))
    issuer = enrol("first")
    state = issuer.post(
        "/device-auth/bootstrap",
        json={"org_id": org, "device_identifier": "issuer", "scopes": ["tokens:write"]},
        headers=bearer(token),
    ).json()

    answer = issuer.post("/tokens", json={"scopes": ["models:write"]}, headers=bearer(state["access_token"]))

    assert answer.status_code == 403
    assert "does not grant models:write" in answer.json()["detail"]


def test_a_device_issues_no_tokens(enrol: Callable[..., httpx.Client]) -> None:
    assert enrol().post("/tokens", json={}).status_code == 403


def test_the_embedded_server_issues_no_token_for_a_scope_that_does_not_exist(server: EmbeddedServer) -> None:
    with pytest.raises(InvalidContentError, match=f"known are {', '.join(ALL_SCOPES)}"):
        server.create_bootstrap_token(org_id="clinic-a", scopes=("admin",))
