"""What the database refuses, in the terms of the control plane."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from edgeml_server.errors import (
    ContradictionError,
    InvalidContentError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["to_json", "translated"]

_HALF_A_CHARACTER = "a text holds half a character (a lone surrogate); send valid Unicode"
_LOG = logging.getLogger(__name__)


def to_json(value: object) -> str:
    """Return the JSON text that a column holds.

    Raises:
        InvalidContentError: A number is NaN or infinite, which JSON has not; or a text holds half a character
            (a lone surrogate), which could be stored escaped but never sent again.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
        return json.dumps(value, allow_nan=False)
    except UnicodeEncodeError as exc:
        raise InvalidContentError(_HALF_A_CHARACTER) from exc
    except ValueError as exc:
        raise InvalidContentError("a number is NaN or infinite, which JSON has no form for") from exc


@contextmanager
def translated() -> Generator[None]:
    """Raise the control plane's own errors for what the database says.

    Raises:
        ContradictionError: A constraint was broken by a rival.
        InvalidContentError: A value cannot be stored.
        UnavailableError: The database is busy or not reachable.
    """
    try:
        yield
    except StatementError as exc:
        if exc.orig is not None and not isinstance(exc, DBAPIError):
            raise exc.orig from exc  # ours, raised while a value was converted
        raise _translation(exc) from exc
    except UnicodeEncodeError as exc:
        raise InvalidContentError(_HALF_A_CHARACTER) from exc
    except PoolTimeoutError as exc:
        raise UnavailableError("all connections to the database are in use; try again in a moment") from exc


def _translation(error: StatementError) -> Exception:
    if isinstance(error, DataError):
        return InvalidContentError("a value is too long, or holds a character that cannot be stored")
    if isinstance(error, IntegrityError):
        return ContradictionError("somebody changed the same thing at the same time; try again")
    if isinstance(error, OperationalError):
        _LOG.warning("the database failed: %s", error.orig)
        return UnavailableError("the database is busy or not reachable; try again in a moment")
    return error
