"""Reading a filter's parameters: every mistake becomes one sentence that names the alternatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeml_client.errors import FilterConfigError
from edgeml_client.wording import quoted

__all__ = ["FilterParameters", "rename"]


class FilterParameters(BaseModel):
    """The parameters of one filter type under their canonical names; numbers are finite numbers.

    What is not given and has a default is not recorded either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def read(cls, values: Mapping[str, Any], *, filter_type: str) -> Self:
        """Return the parameters that ``values`` spell.

        Raises:
            FilterConfigError: A key is unknown or missing, or a value cannot work.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as exc:
            raise FilterConfigError(cls._sentence(exc, filter_type)) from exc

    @classmethod
    def _sentence(cls, exc: ValidationError, filter_type: str) -> str:
        problem = exc.errors(include_url=False)[0]
        if not problem["loc"]:
            return f"filter {filter_type!r} {problem['msg'].removeprefix('Value error, ')}"
        key = str(problem["loc"][0])
        taken = ", ".join(cls.model_fields)
        if problem["type"] == "extra_forbidden":
            return f"filter {filter_type!r} does not know {quoted(key)}; it takes: {taken}"
        if problem["type"] == "missing":
            return f"filter {filter_type!r} needs {key!r}; it takes: {taken}"
        reason = problem["msg"].removeprefix("Value error, ")
        return f"filter {filter_type!r}: {key} = {quoted(problem['input'])} cannot work: {reason}"


def rename(values: Mapping[str, Any], *, old: str, new: str, filter_type: str) -> dict[str, Any]:
    """Return ``values`` with the key ``old``, which other servers use, spelled ``new``.

    A control plane may send both, so that SDKs of either kind read the same number.

    Raises:
        FilterConfigError: Both are given, and they differ.
    """
    if old not in values:
        return dict(values)
    if new in values and not _agree(values[old], values[new]):
        raise FilterConfigError(
            f"filter {filter_type!r} takes either {new!r} or {old!r}, and here they contradict each other"
        )
    return {new: values[old], **{key: value for key, value in values.items() if key != old}}


def _agree(one: object, other: object) -> bool:
    return (
        isinstance(one, int | float)
        and isinstance(other, int | float)
        and math.isclose(one, other, rel_tol=1e-9)
    )
