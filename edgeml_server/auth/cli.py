"""``edgeml-server token``: create, list and revoke tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeml_server.auth.issuing import (
    TokenOrder,
    issue_bootstrap,
    issue_operator,
    list_issued,
    revoke_issued,
)
from edgeml_server.auth.rules import ALL_SCOPES
from edgeml_server.commands import BlobUrl, DatabaseUrl, Org, opened_plane, print_table, say

__all__ = ["app"]

app = typer.Typer(help="Create, list and revoke tokens.", no_args_is_help=True)


Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="What the device may do; devices:write by default.")
]


@app.command()
def create(
    org: Org,
    *,
    operator: bool = typer.Option(False, "--operator", help="A long-lived token with every scope."),
    device_identifier: str | None = typer.Option(None, help="Bind the token to one device."),
    scope: Scopes = None,
    ttl_s: int | None = typer.Option(None, min=1, help="Life of a bootstrap token, in seconds."),
    reusable: bool = typer.Option(False, "--reusable", help="Let it enrol many devices until it expires."),
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Print a new bootstrap token, which enrols one device, or an operator token."""
    with opened_plane(database_url=database_url, blob_url=blob_url, may_create=True) as plane:
        now = plane.clock.now()
        order = TokenOrder(
            scopes=tuple(scope or ["devices:write"]),
            device_identifier=device_identifier,
            ttl_s=ttl_s,
            single_use=not reusable,
        )
        ttl = plane.settings.bootstrap_ttl_s
        with plane.database.unit_of_work() as work:
            issued = (
                issue_operator(work, org, scopes=ALL_SCOPES, now=now)
                if operator
                else issue_bootstrap(work, org, order, held=ALL_SCOPES, default_ttl_s=ttl, now=now)
            )
    end = "until it is revoked" if issued.expires_at is None else f"until {issued.expires_at.isoformat()}"
    say(f"{issued.kind} token {issued.id} of {org}, good {end}; it is shown this once:")
    typer.echo(issued.token.get_secret_value())


@app.command("list")
def list_tokens(org: Org, *, database_url: DatabaseUrl = None, blob_url: BlobUrl = None) -> None:
    """List the bootstrap and operator tokens of an organization, without their secrets."""
    with (
        opened_plane(database_url=database_url, blob_url=blob_url) as plane,
        plane.database.snapshot() as session,
    ):
        tokens = list_issued(session, org)
    print_table(
        ("ID", "KIND", "DEVICE", "SCOPES", "EXPIRES", "USED", "REVOKED"),
        [
            (
                token.id,
                token.kind,
                token.device_identifier,
                ",".join(token.scopes),
                token.expires_at,
                token.used_at,
                token.revoked_at,
            )
            for token in tokens
        ],
    )


@app.command()
def revoke(token_id: str, org: Org, *, database_url: DatabaseUrl = None, blob_url: BlobUrl = None) -> None:
    """Revoke a bootstrap or operator token by its id; devices keep their own tokens."""
    with (
        opened_plane(database_url=database_url, blob_url=blob_url) as plane,
        plane.database.unit_of_work() as work,
    ):
        revoke_issued(work, org, token_id, now=plane.clock.now())
    say(f"token {token_id} is revoked")
