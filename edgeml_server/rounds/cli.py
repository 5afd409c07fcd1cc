"""``edgeml-server round``: create, list, show and cancel rounds."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(help="Create, list, show and cancel rounds.", no_args_is_help=True)


@app.callback()
def rounds() -> None:
    """Create, list, show and cancel rounds."""
