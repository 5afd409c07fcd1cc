"""The application: all domains behind one set of middlewares."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI

from edgeml_client import __version__
from edgeml_server._http.health import health_router
from edgeml_server._http.limits import BodyLimitMiddleware
from edgeml_server._http.problems import answer_problems
from edgeml_server._http.request_id import RequestIdMiddleware
from edgeml_server.auth.endpoints import DOMAIN as _AUTH
from edgeml_server.devices.endpoints import DOMAIN as _DEVICES
from edgeml_server.federations.endpoints import DOMAIN as _FEDERATIONS
from edgeml_server.inference.endpoints import DOMAIN as _INFERENCE
from edgeml_server.personalization.endpoints import DOMAIN as _PERSONALIZATION
from edgeml_server.privacy.endpoints import DOMAIN as _PRIVACY
from edgeml_server.registry.endpoints import DOMAIN as _REGISTRY
from edgeml_server.rounds.endpoints import DOMAIN as _ROUNDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from edgeml_server.domain import Domain
    from edgeml_server.plane import ControlPlane

__all__ = ["API_PREFIX", "DOMAINS", "create_app"]

API_PREFIX: Final = "/api/v1"

DOMAINS: Final[tuple[Domain, ...]] = (
    _AUTH,
    _DEVICES,
    _REGISTRY,
    _ROUNDS,
    _PERSONALIZATION,
    _FEDERATIONS,
    _PRIVACY,
    _INFERENCE,
)


def create_app(plane: ControlPlane) -> FastAPI:
    """Return the ASGI application of a control plane; its keepers work while it is up."""

    @asynccontextmanager
    async def keep(_app: FastAPI) -> AsyncGenerator[None]:
        with ExitStack() as running:
            for make in (make for domain in DOMAINS for make in domain.keepers):
                keeper = make(plane)
                running.callback(keeper.close)
                keeper.start()
            yield

    # The interactive pages would load their scripts from elsewhere; /openapi.json stays.
    app = FastAPI(
        title="EdgeML control plane", version=__version__, lifespan=keep, docs_url=None, redoc_url=None
    )
    app.state.plane = plane
    app.state.version_uses = tuple(use for domain in DOMAINS for use in domain.version_uses)
    answer_problems(app)
    # Added last is outermost: the name of the request is there for the refusal of its body.
    app.add_middleware(BodyLimitMiddleware, settings=plane.settings)
    app.add_middleware(RequestIdMiddleware, clock=plane.clock)
    capabilities = tuple(name for domain in DOMAINS for name in domain.capabilities)
    for prefix in ("", API_PREFIX):  # probes ask at the root, clients below the address of the API
        app.include_router(health_router(capabilities), prefix=prefix)
    for router in (router for domain in DOMAINS for router in domain.routers):
        app.include_router(router, prefix=API_PREFIX)
    return app
