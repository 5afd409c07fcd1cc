"""What the commands of ``edgeml-server`` share: options, the control plane they work on, and printing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from pydantic import ValidationError
from sqlalchemy import make_url

from edgeml_client.errors import EdgeMLClientError
from edgeml_server.db.migrate import is_migrated
from edgeml_server.errors import ControlPlaneError, SetupError
from edgeml_server.plane import ControlPlane, open_control_plane
from edgeml_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = [
    "BlobUrl",
    "DatabaseUrl",
    "Org",
    "opened_plane",
    "print_table",
    "say",
    "settings_from",
    "stop_on_refusal",
]

_ENVIRONMENT: Final = "EDGEML_SERVER_"

Org = Annotated[str, typer.Option("--org", help="The organization.", envvar="EDGEML_ORG_ID")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///file or postgresql://user@host/database.", envvar=f"{_ENVIRONMENT}DATABASE_URL"
    ),
]
BlobUrl = Annotated[
    str | None,
    typer.Option(help="Where files are kept: file:///absolute/path.", envvar=f"{_ENVIRONMENT}BLOB_URL"),
]


def settings_from(**chosen: object) -> Settings:
    """Return the settings of the environment, except for those that were chosen.

    Raises:
        SetupError: A value cannot work; the message names it.
    """
    try:
        return Settings.model_validate(
            Settings().model_dump() | {name: value for name, value in chosen.items() if value is not None}
        )
    except ValidationError as exc:
        problems = "; ".join(f"{found['loc'][0]}: {found['msg']}" for found in exc.errors())
        raise SetupError(f"the settings cannot work: {problems}") from exc


@contextmanager
def opened_plane(
    *, database_url: str | None, blob_url: str | None, may_create: bool = False
) -> Generator[ControlPlane]:
    """Open the control plane for one command; a refusal ends the command with its sentence.

    Args:
        database_url: As in :class:`Settings`; by default that of the environment.
        blob_url: The same for files.
        may_create: Make a control plane where there is none. A command that can find nothing in an empty one
            says that there is none instead: mostly it was meant for another database.
    """
    with stop_on_refusal():
        settings = settings_from(database_url=database_url, blob_url=blob_url)
        if not may_create and not is_migrated(settings.database_url):
            shown = make_url(settings.database_url).render_as_string(hide_password=True)
            raise SetupError(
                f"there is no control plane at {shown}: name its database with --database-url or "
                f"{_ENVIRONMENT}DATABASE_URL, or make a new one with `edgeml-server migrate`"
            )
        with open_control_plane(settings) as plane:
            yield plane


@contextmanager
def stop_on_refusal() -> Generator[None]:
    """Turn a refusal into one line on the standard error stream and the exit status 1."""
    try:
        yield
    except ValidationError as exc:
        _stop("; ".join(f"{found['loc'][0]}: {found['msg']}" for found in exc.errors()), exc)
    except (ControlPlaneError, SetupError, EdgeMLClientError, OSError) as exc:
        _stop(str(exc), exc)


def _stop(sentence: str, cause: Exception) -> NoReturn:
    typer.secho(f"error: {sentence}", err=True, fg="red")
    raise typer.Exit(1) from cause


def say(text: str) -> None:
    """Print a remark on the standard error stream, so that what is printed elsewhere can be piped."""
    typer.echo(text, err=True)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under titles, in columns as wide as needed."""
    cells = [[*titles], *[["" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
