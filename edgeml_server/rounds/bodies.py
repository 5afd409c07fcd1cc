"""The bodies of the operators' calls about rounds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from edgeml_client.schemas import RoundConfig, WireBody
from edgeml_server._http.problems import validation_sentence
from edgeml_server.errors import InvalidContentError

__all__ = ["AggregateRequest", "CreateRoundRequest", "round_request"]


class CreateRoundRequest(WireBody):
    """``POST /training/rounds``: open a series of rounds.

    Attributes:
        model_id: The model's id, or its name.
        version: The version to start from; by default the latest.
        num_rounds: How many rounds follow each other.
        min_updates: The fewest updates with which a round is aggregated.
        cohort_size: How many devices to draw for each round; by default all that were seen in the last day.
        deadline_s: Seconds from the draw of a cohort to the end of its training.
        seed: Makes the draws repeatable; by default one is drawn.
        norm_bound: ``median`` shrinks every update to the median norm of its round.
        config: What the devices are asked to do.
    """

    model_id: str = Field(min_length=1, max_length=255)
    version: str | None = Field(default=None, min_length=1, max_length=64)
    num_rounds: int = Field(default=1, ge=1, le=1_000_000)
    min_updates: int = Field(default=1, ge=1, le=1_000_000)
    cohort_size: int | None = Field(default=None, ge=1, le=1_000_000)
    deadline_s: float = Field(default=3600.0, gt=0, le=366 * 24 * 3600, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    norm_bound: Literal["none", "median"] = "none"
    config: RoundConfig = Field(default_factory=RoundConfig)


def round_request(**values: object) -> CreateRoundRequest:
    """Return a request made in this process rather than read from the wire.

    Raises:
        InvalidContentError: A value cannot work.
    """
    try:
        return CreateRoundRequest.model_validate(values)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False, include_context=False)
        raise InvalidContentError(validation_sentence(errors)) from exc


class AggregateRequest(WireBody):
    """``POST /training/aggregate``: average the legacy updates that belong to no round.

    Attributes:
        base_version: The version they were trained from; by default the latest.
        new_version: The name of the result; by default the one that follows ``base_version``.
        strategy: ``metrics`` and ``fedavg`` both mean the sample-weighted mean.
        architecture: Ignored, like the three dimensions: the registered model says what it looks like.
    """

    model_id: str = Field(min_length=1, max_length=255)
    base_version: str | None = Field(default=None, max_length=64)
    new_version: str | None = Field(default=None, min_length=1, max_length=64)
    min_updates: int = Field(default=1, ge=1, le=1_000_000)
    publish: bool = True
    strategy: Literal["metrics", "fedavg"] = "metrics"
    update_format: Literal["weights", "delta"] = "delta"
    architecture: JsonValue = None
    input_dim: JsonValue = None
    hidden_dim: JsonValue = None
    output_dim: JsonValue = None
