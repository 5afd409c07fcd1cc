"""``edgeml-server``: run a control plane, and do on it what operators do.

Every command but ``serve`` works on the database directly, so it needs the server's settings, not a token.
"""

from __future__ import annotations

import typer

from edgeml_client import __version__
from edgeml_server.auth.cli import app as token_app
from edgeml_server.commands import BlobUrl, DatabaseUrl, opened_plane, say, settings_from, stop_on_refusal
from edgeml_server.db.migrate import current_revision
from edgeml_server.registry.cli import app as model_app
from edgeml_server.rounds.cli import app as round_app
from edgeml_server.serving import serve_forever

__all__ = ["app", "main"]

app = typer.Typer(
    name="edgeml-server",
    help="The EdgeML control plane.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(token_app, name="token")
app.add_typer(model_app, name="model")
app.add_typer(round_app, name="round")


def main() -> None:
    """Run the command line."""
    app()


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: bool = typer.Option(  # noqa: FBT001 - the callback has done its work
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """The EdgeML control plane."""


@app.command()
def serve(
    *,
    host: str | None = typer.Option(None, help="The address to listen on."),
    port: int | None = typer.Option(None, help="The port to listen on."),
    workers: int | None = typer.Option(None, help="Processes; more than one needs PostgreSQL."),
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Run the control plane until it is told to stop."""
    with stop_on_refusal():
        settings = settings_from(
            host=host, port=port, workers=workers, database_url=database_url, blob_url=blob_url
        )
        serve_forever(settings, announce=say)


@app.command()
def migrate(*, database_url: DatabaseUrl = None, blob_url: BlobUrl = None) -> None:
    """Bring the database to the schema of this version."""
    with opened_plane(database_url=database_url, blob_url=blob_url, may_create=True) as plane:
        say(f"the database is at revision {current_revision(plane.database)}")
