"""The bearer token of a request: asked for late, checked, and asked for again when it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol, cast, runtime_checkable

from edgeml_client.errors import AuthError

__all__ = ["BearerTokens", "ReplaceableTokens"]

# RFC 6750, section 2.1: b64token.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@runtime_checkable
class ReplaceableTokens(Protocol):
    """The object behind a token provider, if it wants to hear that a token was refused."""

    def report_refused_token(self, access_token: str) -> None:
        """Make the next call of the provider return another token than this one, if it can."""
        ...


class BearerTokens:
    """Asks a token provider, and never shows what it said."""

    def __init__(self, provider: Callable[[], str] | None) -> None:
        self._provider = provider

    def current(self) -> str | None:
        """Return the token to send now, or ``None`` when requests go without.

        Raises:
            AuthError: The provider returned something that cannot be a token.
        """
        if self._provider is None:
            return None
        token = cast("object", self._provider())  # written by the user, so perhaps not what its type says
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise AuthError(
                "auth_token_provider returned an empty value, or one that cannot be a bearer token: "
                "pass a callable such as DeviceAuthClient.get_access_token_sync"
            )
        return token

    def after_refusal(self, refused: str) -> str | None:
        """Return a token other than the refused one, or ``None`` if there is no other."""
        owner = getattr(self._provider, "__self__", None)
        if isinstance(owner, ReplaceableTokens):
            owner.report_refused_token(refused)
        token = self.current()
        return None if token == refused else token
