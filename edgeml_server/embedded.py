"""A control plane inside this process, for a notebook, a test or a simulation."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import uvicorn
from typing_extensions import override

from edgeml_client.schemas import RoundConfig, RoundStatus
from edgeml_server.app import API_PREFIX, create_app
from edgeml_server.auth.issuing import TokenOrder, issue_bootstrap, issue_operator
from edgeml_server.auth.rules import ALL_SCOPES
from edgeml_server.errors import SetupError
from edgeml_server.plane import ControlPlane, open_control_plane
from edgeml_server.registry.files import publish_state
from edgeml_server.rounds import local as rounds
from edgeml_server.rounds.bodies import round_request
from edgeml_server.serving import uvicorn_options
from edgeml_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from fastapi import FastAPI

    from edgeml_client.clock import Clock
    from edgeml_client.schemas import ModelVersion

__all__ = ["EmbeddedServer"]

_START_TIMEOUT_S: Final = 30.0
_GRACE_S: Final = 5
"""Requests still open when the server closes get this long to end."""


class EmbeddedServer:
    """A control plane on a free loopback port, answering from a thread of this process.

    It answers from the moment the constructor returns until :meth:`close`.

    Args:
        data_dir: Where database and files are kept; a temporary folder, removed at the end, by default.
        database_url: Another database than the SQLite file in ``data_dir``.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        settings: Other settings; ``database_url`` and ``blob_url`` in them yield to ``data_dir``.
        clock: Another clock than the machine's.

    Raises:
        SetupError: A setting cannot work, or the port is taken.

    Example:
        >>> with EmbeddedServer() as server:
        ...     token = server.create_bootstrap_token(org_id="clinic-a")
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        database_url: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        with ExitStack() as stack:
            folder = _folder(stack, data_dir)
            chosen = _settled(settings, folder=folder, database_url=database_url)
            listener = _listen(stack, host, port)
            self._plane: Final = stack.enter_context(open_control_plane(chosen, clock=clock))
            self._url = _url(listener)
            stack.enter_context(_ServerThread(create_app(self._plane), listener))
            self._running = stack.pop_all()

    @property
    def url(self) -> str:
        """The address without ``/api/v1``: what ``DeviceAuthClient(base_url=...)`` takes."""
        return self._url

    @property
    def api_base(self) -> str:
        """The address with ``/api/v1``: what ``FederatedClient(api_base=...)`` takes."""
        return self._url + API_PREFIX

    @property
    def plane(self) -> ControlPlane:
        """What runs behind the address."""
        return self._plane

    def create_bootstrap_token(
        self,
        *,
        org_id: str,
        scopes: Sequence[str] = ("devices:write",),
        device_identifier: str | None = None,
        ttl_s: int = 3600,
    ) -> str:
        """Return a token that enrols one device, once, within ``ttl_s`` seconds.

        Raises:
            InvalidContentError: A scope does not exist.
        """
        order = TokenOrder(scopes=tuple(scopes), device_identifier=device_identifier, ttl_s=ttl_s)
        with self._plane.database.unit_of_work() as work:
            issued = issue_bootstrap(
                work, org_id, order, held=ALL_SCOPES, default_ttl_s=ttl_s, now=self._plane.clock.now()
            )
        return issued.token.get_secret_value()

    def create_operator_token(self, *, org_id: str) -> str:
        """Return a token with every scope of an organization, for scripts and tests."""
        with self._plane.database.unit_of_work() as work:
            issued = issue_operator(work, org_id, scopes=ALL_SCOPES, now=self._plane.clock.now())
        return issued.token.get_secret_value()

    def register_model(
        self, *, org_id: str, name: str, state: Mapping[str, Any] | bytes | Path, version: str = "1"
    ) -> ModelVersion:
        """Publish a version of a model, which is made if there is none of that name.

        Args:
            state: NumPy arrays or torch tensors by name, or the bytes of a model file, or the path of one.

        Raises:
            ContradictionError: The model has a version of that name.
            InvalidContentError: The state is no model.
        """
        return publish_state(self._plane, org_id, name, state, version=version).on_the_wire()

    def create_round(
        self,
        *,
        org_id: str,
        model: str,
        num_rounds: int = 1,
        min_updates: int = 1,
        cohort_size: int | None = None,
        deadline_s: float = 3600.0,
        config: RoundConfig | Mapping[str, Any] | None = None,
        version: str | None = None,
        seed: int | None = None,
        norm_bound: Literal["none", "median"] = "none",
    ) -> RoundStatus:
        """Open ``num_rounds`` rounds that follow each other, and return the first.

        Args:
            org_id: The organization.
            model: The name or id of a model that has a published version.
            num_rounds: How many rounds follow each other.
            min_updates: The fewest updates with which a round is aggregated.
            cohort_size: How many devices to draw for each round; by default all that are there.
            deadline_s: Seconds from the draw of a cohort to the end of its training.
            config: What the devices are asked to do.
            version: The version to start from, by default the latest.
            seed: Makes the draws repeatable.
            norm_bound: ``median`` shrinks every update to the median norm of its round.

        Raises:
            AbsentError: There is no such model or version.
            ContradictionError: The version cannot be trained.
            InvalidContentError: A number or the config cannot work.
        """
        request = round_request(
            model_id=model,
            version=version,
            num_rounds=num_rounds,
            min_updates=min_updates,
            cohort_size=cohort_size,
            deadline_s=deadline_s,
            seed=seed,
            norm_bound=norm_bound,
            config=config or RoundConfig(),
        )
        return rounds.open_series(self._plane, org_id, request)

    def get_round(self, round_id: str) -> RoundStatus:
        """Return how far a round is; raises ``AbsentError`` if there is none of that id."""
        return rounds.read_round(self._plane, round_id)

    def wait_for_round(self, round_id: str, timeout_s: float) -> RoundStatus:
        """Return the round once it is completed or abandoned; raises ``TimeoutError`` after ``timeout_s``."""
        return rounds.wait_for_end(self._plane, round_id, timeout_s=timeout_s)

    def cancel_round(self, round_id: str) -> RoundStatus:
        """Abandon a round and end its series; raises ``ContradictionError`` if it is completed."""
        return rounds.cancel_round(self._plane, round_id)

    def close(self) -> None:
        """Stop answering, end the thread, close the database; remove a temporary folder. Twice is fine."""
        self._plane.announcements.close()  # whoever waits for a round is answered now
        self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(uvicorn.Server):
    """A server that says when it is up, so that nobody needs to look again and again."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class _ServerThread:
    """The thread in which the application answers, while the block is open."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        options = uvicorn_options(
            loop="asyncio", log_config=None, log_level="warning", timeout_graceful_shutdown=_GRACE_S
        )
        self._server = _Server(uvicorn.Config(app, **options))
        self._listener = listener
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="edgeml-embedded-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._server.up.wait(_START_TIMEOUT_S) or self._failure is not None:
            self._stop()
            raise SetupError("the embedded control plane did not start; the log says why") from self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except BaseException as exc:  # noqa: BLE001 - uvicorn exits the process by SystemExit; here the caller is told
            self._failure = exc
        finally:
            self._server.up.set()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


def _folder(stack: ExitStack, data_dir: Path | str | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).absolute()
    temporary = tempfile.TemporaryDirectory(prefix="edgeml-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(temporary))


def _settled(settings: Settings | None, *, folder: Path, database_url: str | None) -> Settings:
    places = {
        "database_url": database_url or f"sqlite:///{folder / 'control-plane.db'}",
        "blob_url": (folder / "blobs").as_uri(),
    }
    return (settings or Settings()).model_copy(update=places)


def _listen(stack: ExitStack, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only on sockets that name the protocol; with it, an answer of two
    # packets waits 40 ms for the client's delayed acknowledgement.
    listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        raise SetupError(f"cannot listen on {host} port {port}: {exc.strerror}; choose another port") from exc
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
