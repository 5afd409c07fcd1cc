"""``edgeml-server model``: create, upload and list models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeml_server.commands import BlobUrl, DatabaseUrl, Org, opened_plane, print_table, say
from edgeml_server.errors import SetupError
from edgeml_server.registry.files import publish_state
from edgeml_server.registry.models import create_model
from edgeml_server.registry.records import ModelOrder
from edgeml_server.registry.repository import ModelRepository, VersionRepository

__all__ = ["app"]

app = typer.Typer(help="Create, upload and list models.", no_args_is_help=True)


@app.command()
def create(
    name: str,
    org: Org,
    *,
    description: str = typer.Option("", help="What it is for."),
    framework: str = typer.Option("", help="What it is made with."),
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Create a model, and print its id."""
    with opened_plane(database_url=database_url, blob_url=blob_url, may_create=True) as plane:
        order = ModelOrder(name=name, description=description, framework=framework)
        with plane.database.unit_of_work() as work:
            model = create_model(work, org, order, now=plane.clock.now())
    typer.echo(model.id)


@app.command()
def upload(
    name: str,
    file: Annotated[Path, typer.Argument(help="A safetensors file, or a torch-saved state dict.")],
    org: Org,
    *,
    version: str = typer.Option("1", help="The version's name."),
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Publish a file as a version of a model, which is made if there is none of that name."""
    with opened_plane(database_url=database_url, blob_url=blob_url, may_create=True) as plane:
        if not file.is_file():
            raise SetupError(f"there is no file {str(file)!r}")
        held = publish_state(plane, org, name, file, version=version)
    say(f"version {held.version} of {name} is published: {held.checksum}")
    typer.echo(held.model_id)


@app.command("list")
def list_models(org: Org, *, database_url: DatabaseUrl = None, blob_url: BlobUrl = None) -> None:
    """List the models of an organization with their latest versions."""
    with (
        opened_plane(database_url=database_url, blob_url=blob_url) as plane,
        plane.database.snapshot() as session,
    ):
        models, _ = ModelRepository(session, org).page(
            framework=None, use_case=None, name=None, limit=1000, offset=0
        )
        latest = [VersionRepository(session, org, model.id).find_latest() for model in models]
    print_table(
        ("ID", "NAME", "LATEST", "DIGEST"),
        [
            (model.id, model.name, held and held.version, held and held.checksum)
            for model, held in zip(models, latest, strict=True)
        ],
    )
