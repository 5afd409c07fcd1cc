"""``edgeml-server round``: create, list, show and cancel rounds."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from edgeml_client.schemas import RoundStatus
from edgeml_server.commands import BlobUrl, DatabaseUrl, Org, opened_plane, print_table, say
from edgeml_server.errors import InvalidContentError
from edgeml_server.rounds import local
from edgeml_server.rounds.bodies import round_request
from edgeml_server.rounds.repository import RoundRepository
from edgeml_server.rounds.service import phases_named, status_of

__all__ = ["app"]

app = typer.Typer(help="Create, list, show and cancel rounds.", no_args_is_help=True)

RoundId = Annotated[str, typer.Argument(help="The round's id.")]


@app.command()
def create(
    model: Annotated[str, typer.Argument(help="The model's name or id.")],
    org: Org,
    *,
    version: str | None = typer.Option(None, help="The version to start from; the latest by default."),
    num_rounds: int = typer.Option(1, help="How many rounds follow each other."),
    min_updates: int = typer.Option(1, help="The fewest updates with which a round is aggregated."),
    cohort_size: int | None = typer.Option(None, help="Devices drawn for each round; all by default."),
    deadline_s: float = typer.Option(3600.0, help="Seconds of training."),
    seed: int | None = typer.Option(None, help="Makes the draws repeatable."),
    norm_bound: str = typer.Option("none", help="none, or median: shrink updates to the median norm."),
    config: str = typer.Option("{}", help='What devices are asked to do, in JSON: {"proximal_mu": 0.1}.'),
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """Open a series of rounds, and print the id of the first."""
    with opened_plane(database_url=database_url, blob_url=blob_url) as plane:
        request = round_request(
            model_id=model,
            version=version,
            num_rounds=num_rounds,
            min_updates=min_updates,
            cohort_size=cohort_size,
            deadline_s=deadline_s,
            seed=seed,
            norm_bound=norm_bound,
            config=_parsed(config),
        )
        opened = local.open_series(plane, org, request)
    say(f"round 1 of {num_rounds} is {opened.state}, from version {opened.version}")
    typer.echo(opened.round_id)


@app.command("list")
def list_rounds(
    org: Org,
    *,
    status: str = typer.Option("all", help="A phase, active, ended or all."),
    limit: int = typer.Option(100, min=1, max=1000, help="How many at most, the oldest first."),
    database_url: DatabaseUrl = None,
    blob_url: BlobUrl = None,
) -> None:
    """List the rounds of an organization."""
    with opened_plane(database_url=database_url, blob_url=blob_url) as plane:
        phases = phases_named(status)
        with plane.database.snapshot() as session:
            found = RoundRepository(session, org).in_phases(phases, limit=limit)
    titles = ("round", "number", "state", "version", "updates", "cohort", "new version", "deadline")
    print_table(titles, [_row(status_of(record)) for record in found])


@app.command()
def show(round_id: RoundId, *, database_url: DatabaseUrl = None, blob_url: BlobUrl = None) -> None:
    """Print how far a round is, as JSON."""
    with opened_plane(database_url=database_url, blob_url=blob_url) as plane:
        typer.echo(local.read_round(plane, round_id).model_dump_json(indent=2))


@app.command()
def cancel(round_id: RoundId, *, database_url: DatabaseUrl = None, blob_url: BlobUrl = None) -> None:
    """Abandon a round and end its series."""
    with opened_plane(database_url=database_url, blob_url=blob_url) as plane:
        ended = local.cancel_round(plane, round_id)
    say(f"{ended.round_id} is {ended.state}: {ended.reason}")


def _parsed(config: str) -> object:
    try:
        return json.loads(config)
    except ValueError as exc:
        raise InvalidContentError(f"--config is not JSON: {exc}") from exc


def _row(status: RoundStatus) -> tuple[object, ...]:
    deadline = status.deadline_at.isoformat(timespec="seconds") if status.deadline_at else None
    return (
        status.round_id,
        f"{status.round_number}/{status.num_rounds}",
        status.state,
        status.version,
        status.num_updates,
        status.num_selected,
        status.new_version,
        deadline,
    )
