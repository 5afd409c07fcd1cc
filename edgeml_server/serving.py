"""Running the control plane as a service."""

from __future__ import annotations

import atexit
import logging
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from edgeml_client import __version__
from edgeml_server._http.protocol import LargeBodyProtocol
from edgeml_server.app import create_app
from edgeml_server.db.engine import database_url
from edgeml_server.errors import SetupError
from edgeml_server.plane import open_control_plane
from edgeml_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from edgeml_server.plane import ControlPlane

__all__ = ["app_from_environment", "serve_forever", "uvicorn_options"]

_GRACE_S: Final = 10
"""Requests still open when the server is told to stop get this many seconds to end."""

_HANDED_ON: Final = ("database_url", "blob_url", "workers")
"""What the command line may have chosen, and worker processes must learn through their environment."""


def uvicorn_options(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - uvicorn's own options
    """Return how uvicorn runs the application, wherever it does; ``more`` comes first."""
    ours = {
        "http": LargeBodyProtocol,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,  # its lines would hold signed links; ours do not
        "server_header": False,
        "timeout_keep_alive": 75,  # devices call again after training: keep their connection for a while
        "timeout_graceful_shutdown": _GRACE_S,
    }
    return ours | more


def serve_forever(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Serve until a signal ends it.

    Args:
        announce: Told once where the control plane listens and what it keeps its data in.

    Raises:
        SetupError: A setting cannot work, or the port is taken.
    """
    database = database_url(settings.database_url).render_as_string(hide_password=True)
    place = f"http://{settings.host}:{settings.port}"
    announce(f"EdgeML control plane {__version__} on {place}; database {database}; files {settings.blob_url}")
    if settings.workers > 1:
        _serve_in_processes(settings)
        return
    with open_control_plane(settings) as plane:
        _log_to_standard_error()
        options = uvicorn_options(host=settings.host, port=settings.port)
        server = _Server(uvicorn.Config(create_app(plane), **options), plane)
        try:
            server.run()
        except SystemExit as exc:  # uvicorn's way to say that it could not listen; its log says why
            raise SetupError(f"cannot listen on {settings.host} port {settings.port}") from exc


class _Server(uvicorn.Server):
    """A server that, when told to stop, answers those who wait for a round at once."""

    def __init__(self, config: uvicorn.Config, plane: ControlPlane) -> None:
        super().__init__(config)
        self._plane = plane

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._plane.announcements.close()
        super().handle_exit(sig, frame)


def app_from_environment() -> FastAPI:
    """Return the application of one worker process, from ``EDGEML_SERVER_*``."""
    stack = ExitStack()
    plane = stack.enter_context(open_control_plane(Settings()))
    atexit.register(stack.close)
    _log_to_standard_error()
    return create_app(plane)


def _serve_in_processes(settings: Settings) -> None:
    with open_control_plane(settings):  # migrate once, and refuse bad settings here instead of in each worker
        pass
    for name in _HANDED_ON:
        os.environ[f"EDGEML_SERVER_{name.upper()}"] = str(getattr(settings, name))
    options = uvicorn_options(host=settings.host, port=settings.port, workers=settings.workers)
    uvicorn.run("edgeml_server.serving:app_from_environment", factory=True, **options)


def _log_to_standard_error() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
