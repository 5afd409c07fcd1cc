"""The bearer token of a request: asked for late, checked, and asked for again when it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from edgeml_client.errors import AuthError, ConfigurationError

__all__ = ["BearerTokens", "ReplaceableTokens", "checked_token"]

# RFC 6750, section 2.1: b64token.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@runtime_checkable
class ReplaceableTokens(Protocol):
    """The object behind a token provider, if it wants to hear that a token was refused."""

    def report_refused_token(self, access_token: str) -> None:
        """Make the next call of the provider return another token than this one, if it can."""
        ...


def checked_token(value: object, *, what: str, remedy: str) -> str:
    """Return ``value`` if it can be sent as a bearer token; the error never shows it.

    Raises:
        AuthError: It is empty, or no token at all.
    """
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise AuthError(f"{what} is empty or cannot be a bearer token: {remedy}")
    return value


class BearerTokens:
    """Asks a token provider, and never shows what it said."""

    def __init__(self, provider: Callable[[], str] | None) -> None:
        if provider is not None and not callable(provider):  # from a notebook, say
            raise ConfigurationError(
                "auth_token_provider must be a function that returns a token: pass "
                "auth.get_access_token_sync itself, without parentheses"
            )
        self._provider = provider

    def current(self) -> str | None:
        """Return the token to send now, or ``None`` when requests go without.

        Raises:
            AuthError: The provider returned something that cannot be a token.
        """
        if self._provider is None:
            return None
        return checked_token(
            self._provider(),
            what="what auth_token_provider returned",
            remedy="pass a callable such as DeviceAuthClient.get_access_token_sync",
        )

    def after_refusal(self, refused: str) -> str | None:
        """Return a token other than the refused one, or ``None`` if there is no other."""
        owner = getattr(self._provider, "__self__", None)
        if isinstance(owner, ReplaceableTokens):
            owner.report_refused_token(refused)
        token = self.current()
        return None if token == refused else token
