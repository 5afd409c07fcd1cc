"""Slips in the class of a strategy, each told with the line that mends it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Final

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig

if TYPE_CHECKING:
    from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["check_class"]

_VALUES: Final = ("gradient_term", "turns", "personal_model", "companions")


def check_class(kind: type[FederatedStrategy]) -> None:
    """Check what a strategy's class declares, before its constructor complains of arguments it does not know.

    Raises:
        ConfigurationError: A class with new fields is no dataclass, a value is a method, or a field that
            rounds are to fill is none of theirs or none of the class's.
    """
    for derived in kind.__mro__:
        _check_decorated(derived)
    for name in _VALUES:
        if inspect.isfunction(getattr(kind, name)):
            raise ConfigurationError(
                f"{kind.__name__}.{name} is a method, and a round asks for a value: write @property "
                "above it, and let it return the value"
            )
    arguments = {field.name for field in dataclasses.fields(kind)}
    for name in (*kind.round_fields, *kind.optional_round_fields):
        if name not in RoundConfig.model_fields or name not in arguments:
            raise ConfigurationError(
                f"{kind.__name__} lets rounds fill {name}, which must be a field of RoundConfig and of "
                f"{kind.__name__}: leave it out of round_fields, or name it as RoundConfig does"
            )


def _check_decorated(kind: type[object]) -> None:
    if "__dataclass_fields__" in vars(kind):
        return
    annotations = inspect.get_annotations(kind)
    fields = [name for name, annotation in annotations.items() if "ClassVar" not in str(annotation)]
    if fields:
        raise ConfigurationError(
            f"{kind.__name__} has new fields ({', '.join(fields)}) and is no dataclass, so it takes none of "
            "them: write @dataclass(frozen=True) in the line above its class"
        )
