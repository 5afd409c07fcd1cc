"""Device auth on the wire, and the operators' calls about tokens."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from edgeml_client.schemas import BootstrapRequest, RefreshRequest, RevokeRequest, TokenResponse
from edgeml_server._http.dependencies import Plane, TokenOperator
from edgeml_server.auth.identify import parse_bearer
from edgeml_server.auth.issuing import (
    TokenOrder,
    issue_bootstrap,
    list_issued,
    revoke_issued,
)
from edgeml_server.auth.service import Refusal, TokenPolicy, bootstrap, refresh, revoke
from edgeml_server.domain import Domain
from edgeml_server.errors import UnauthenticatedError
from edgeml_server.plane import ControlPlane

__all__ = ["DOMAIN"]

router = APIRouter(tags=["auth"])


@router.post("/device-auth/bootstrap")
def bootstrap_device(body: BootstrapRequest, request: Request, plane: Plane) -> dict[str, Any]:
    """Exchange a bootstrap token for the device's own tokens."""
    presented = parse_bearer(request.headers.get("authorization"))
    with plane.database.unit_of_work() as work:
        answer = bootstrap(work, presented, body, policy=_policy(plane), now=plane.clock.now())
    return _in_clear(answer)


@router.post("/device-auth/refresh")
def refresh_tokens(body: RefreshRequest, plane: Plane) -> dict[str, Any]:
    """Exchange a refresh token for its successor and a fresh access token."""
    with plane.database.unit_of_work() as work:
        answer = refresh(work, body.refresh_token, policy=_policy(plane), now=plane.clock.now())
    if isinstance(answer, Refusal):
        raise UnauthenticatedError(answer.detail)
    return _in_clear(answer)


@router.post("/device-auth/revoke", status_code=204)
def revoke_tokens(body: RevokeRequest, plane: Plane) -> Response:
    """Revoke all tokens of the device; an unknown token is as good as revoked."""
    with plane.database.unit_of_work() as work:
        revoke(work, body.refresh_token, reason=body.reason, now=plane.clock.now())
    return Response(status_code=204)


@router.post("/tokens", status_code=201)
def create_bootstrap_token(body: TokenOrder, plane: Plane, operator: TokenOperator) -> dict[str, Any]:
    """Create a bootstrap token; its secret is answered here and never again.

    There is no stored answer for a repetition, because it would hold the secret: a token whose answer was
    lost expires.
    """
    with plane.database.unit_of_work() as work:
        issued = issue_bootstrap(
            work,
            operator.org_id,
            body,
            held=sorted(operator.scopes),
            default_ttl_s=plane.settings.bootstrap_ttl_s,
            now=plane.clock.now(),
        )
    return issued.model_dump(mode="json") | {"token": issued.token.get_secret_value()}


@router.get("/tokens")
def list_tokens(plane: Plane, operator: TokenOperator) -> dict[str, Any]:
    """List the organization's bootstrap and operator tokens, without secrets."""
    with plane.database.snapshot() as session:
        return {"tokens": list_issued(session, operator.org_id)}


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: str, plane: Plane, operator: TokenOperator) -> Response:
    """Revoke a bootstrap or operator token."""
    with plane.database.unit_of_work() as work:
        revoke_issued(work, operator.org_id, token_id, now=plane.clock.now())
    return Response(status_code=204)


def _policy(plane: ControlPlane) -> TokenPolicy:
    return TokenPolicy(
        access_ttl_s=plane.settings.access_ttl_s,
        refresh_ttl_s=plane.settings.refresh_ttl_s,
        grace_s=plane.settings.refresh_grace_s,
        key=plane.key,
    )


def _in_clear(answer: TokenResponse) -> dict[str, Any]:
    return answer.model_dump(mode="json", exclude={"expires_in"}) | {
        "access_token": answer.access_token.get_secret_value(),
        "refresh_token": answer.refresh_token.get_secret_value(),
    }


DOMAIN: Final = Domain(routers=(router,))
