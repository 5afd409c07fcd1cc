"""The form of the built-in filters: validated parameters, and one operation on the whole vector."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import JsonValue
from typing_extensions import override

from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.updates.arrays import like
from edgeml_client.updates.vector import DeltaVector

__all__ = ["VectorFilter", "secure_generator"]


def secure_generator() -> np.random.Generator:
    """Return a generator seeded with 256 bits from the operating system, new at each call."""
    return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(256)))


class VectorFilter(DeltaFilter):
    """A filter that works on all floating arrays at once.

    Args:
        values: Its parameters, by their canonical names.

    Raises:
        FilterConfigError: A parameter is unknown, missing, or has a value that cannot work.
    """

    filter_type: ClassVar[str]
    parameters_type: ClassVar[type[FilterParameters]]
    supported_data_kinds = (DataKind.WEIGHT_DIFF, DataKind.WEIGHTS)

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        """Let a class with an ``apply_`` of its own measure the norm, not tell it as its base would."""
        super().__init_subclass__(**kwargs)
        if "apply_" in vars(cls) and "apply_knowing_norm_" not in vars(cls):
            cls.apply_knowing_norm_ = VectorFilter.apply_knowing_norm_  # type: ignore[method-assign]

    @property
    def works_on_vectors(self) -> bool:
        """Whether a pipeline runs :meth:`apply_`, not a :meth:`process` that a subclass has of its own."""
        return type(self).process is VectorFilter.process

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - checked by parameters_type
        self._parameters = self.parameters_type.read(values, filter_type=self.filter_type)

    def __repr__(self) -> str:
        listed = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{type(self).__name__}({listed})"

    @classmethod
    @override
    def from_config(cls, config: FilterConfig) -> Self:
        """Return the filter that ``config`` describes; see the class for what it raises."""
        given = cls._canonical({key: value for key, value in config.items() if key != "type"})
        read = cls.parameters_type.read(given, filter_type=cls.filter_type)
        return cls(**read.model_dump(exclude_defaults=True))

    @classmethod
    def _canonical(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters under their canonical names."""
        return values

    @property
    @override
    def parameters(self) -> dict[str, JsonValue]:
        return self._parameters.model_dump(mode="json", exclude_defaults=True)

    @abstractmethod
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Filter ``vector`` in place; every number in it is finite."""

    def apply_knowing_norm_(
        self, vector: DeltaVector, *, norm: float, generator: np.random.Generator
    ) -> float:
        """Filter ``vector`` in place, and return its L2 norm afterwards.

        A filter that can tell one norm from the other overrides this, and saves passes over the vector. A
        subclass of it that overrides :meth:`apply_` alone gets this method back.

        Args:
            vector: As for :meth:`apply_`.
            norm: Its L2 norm.
            generator: As for :meth:`apply_`.

        Raises:
            NonFiniteError: The filter made a number NaN or Inf.
        """
        del norm
        self.apply_(vector, generator=generator)
        return vector.norm()

    @override
    def process(self, delta: dict[str, Any], config: FilterConfig | None = None) -> dict[str, Any]:
        """Return the filtered delta as new float32 arrays of the given kinds; ``delta`` stays as it is.

        A pipeline calls this where a subclass overrides it, always without ``config``: the filter was made
        from it, and may know more by now, such as its round.

        Raises:
            FilterConfigError: ``config`` is given and wrong; it replaces this filter's own parameters.
            NonFiniteError: An array holds NaN or Inf.
        """
        chosen = self if config is None else self.from_config(config)
        vector = DeltaVector.of(delta)
        chosen.apply_knowing_norm_(vector, norm=vector.norm(), generator=secure_generator())
        return {name: like(delta[name], view) for name, view in vector.items()}
