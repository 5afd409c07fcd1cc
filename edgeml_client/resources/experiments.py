"""Comparing two versions of a model on devices."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import JsonValue, TypeAdapter, ValidationError

from edgeml_client._transport.http import HttpTransport, QueryValue
from edgeml_client._transport.in_thread import in_thread
from edgeml_client._transport.lists import bare
from edgeml_client._transport.paths import endpoint
from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import Experiment, ExperimentCreation, Record, VariantSpec

__all__ = ["AsyncExperimentsAPI", "ExperimentsAPI"]

Experiments: TypeAlias = list[Experiment]  # inside the class, "list" is a method
Variants: TypeAlias = list[dict[str, JsonValue]]
GroupIds: TypeAlias = list[str]

_EXPERIMENTS: Final[TypeAdapter[Experiments]] = TypeAdapter(
    Annotated[list[Experiment], bare("experiments")],
)


class ExperimentsAPI:
    """The experiments of an organization.

    Every method raises ``RequestRefusedError`` when the control plane says no, ``ConnectionFailedError`` when
    no answer comes, and ``AuthError`` when there is no usable token.

    Args:
        api: Sends the requests.
        org_id: The organization.
    """

    def __init__(self, api: HttpTransport, org_id: str) -> None:
        self.api = api
        self.org_id = org_id

    def create(
        self,
        *,
        name: str,
        model_id: str,
        control_version: str,
        treatment_version: str,
        control_allocation: float = 50.0,
        treatment_allocation: float = 50.0,
        description: str | None = None,
        traffic_percentage: float = 100.0,
        min_sample_size: int = 100,
        confidence_level: float = 0.95,
        primary_metric: str = "conversion",
    ) -> Experiment:
        """Plan an experiment.

        Args:
            name: For people.
            model_id: The model.
            control_version: The version in use.
            treatment_version: The version that may be better.
            control_allocation: Share of the experiment's traffic for the one, in percent.
            treatment_allocation: Share of the experiment's traffic for the other, in percent.
            description: For people.
            traffic_percentage: Share of all traffic that takes part, in percent.
            min_sample_size: Observations for each variant before anything is concluded.
            confidence_level: In (0, 1).
            primary_metric: What decides.

        Raises:
            ConfigurationError: A value is out of its range.
        """
        try:
            body = ExperimentCreation(
                name=name,
                model_id=model_id,
                description=description,
                traffic_percentage=traffic_percentage,
                min_sample_size=min_sample_size,
                confidence_level=confidence_level,
                primary_metric=primary_metric,
                variants=(
                    VariantSpec(
                        name="control",
                        model_version=control_version,
                        traffic_allocation=control_allocation,
                        is_control=True,
                    ),
                    VariantSpec(
                        name="treatment",
                        model_version=treatment_version,
                        traffic_allocation=treatment_allocation,
                        is_control=False,
                    ),
                ),
            )
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            raise ConfigurationError(f"{first['loc'][-1]} is {first['input']!r}: {first['msg']}") from exc
        return self.api.call("POST", "/experiments", Experiment, body=body)

    def list(
        self,
        model_id: str | None = None,
        status_filter: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Experiments:
        """Return experiments, perhaps only those of one model or in one status.

        Args:
            model_id: The model.
            status_filter: The status.
            limit: At most so many.
            offset: After so many others.
        """
        params: dict[str, QueryValue] = {
            "org_id": self.org_id,
            "limit": limit,
            "offset": offset,
            "model_id": model_id or None,
            "status": status_filter or None,
        }
        return self.api.call("GET", "/experiments", _EXPERIMENTS, params=params)

    def get(self, experiment_id: str) -> Experiment:
        """Return one experiment."""
        return self.api.call("GET", endpoint("/experiments/{}", experiment_id), Experiment)

    def start(self, experiment_id: str) -> Experiment:
        """Begin to collect observations."""
        return self._step("start", experiment_id)

    def pause(self, experiment_id: str) -> Experiment:
        """Collect no observations for now."""
        return self._step("pause", experiment_id)

    def resume(self, experiment_id: str) -> Experiment:
        """Go on collecting observations."""
        return self._step("resume", experiment_id)

    def complete(self, experiment_id: str) -> Experiment:
        """End the experiment and keep its result."""
        return self._step("complete", experiment_id)

    def cancel(self, experiment_id: str) -> Experiment:
        """End the experiment without a result."""
        return self._step("cancel", experiment_id)

    def update_allocations(self, experiment_id: str, variants: Variants) -> Experiment:
        """Change how the traffic is shared.

        Args:
            experiment_id: The experiment.
            variants: For each variant its ``name`` and ``traffic_allocation``, in percent.
        """
        path = endpoint("/experiments/{}/allocations", experiment_id)
        return self.api.call("PATCH", path, Experiment, body={"variants": [*variants]})

    def get_target_groups(self, experiment_id: str) -> Record:
        """Return the device groups that take part."""
        return self.api.call("GET", endpoint("/experiments/{}/target-groups", experiment_id), Record)

    def set_target_groups(self, experiment_id: str, group_ids: GroupIds) -> Record:
        """Let exactly these device groups take part."""
        path = endpoint("/experiments/{}/target-groups", experiment_id)
        return self.api.call("PUT", path, Record, body={"group_ids": [*group_ids]})

    def add_target_group(self, experiment_id: str, group_id: str) -> Record:
        """Let one more device group take part."""
        path = endpoint("/experiments/{}/target-groups/{}", experiment_id, group_id)
        return self.api.call("POST", path, Record, body={})

    def remove_target_group(self, experiment_id: str, group_id: str) -> Record:
        """Let a device group no longer take part."""
        path = endpoint("/experiments/{}/target-groups/{}", experiment_id, group_id)
        return self.api.call("DELETE", path, Record)

    def get_analytics(self, experiment_id: str) -> Record:
        """Return the comparison so far."""
        return self.api.call("GET", endpoint("/experiments/{}/analytics", experiment_id), Record)

    def get_analytics_sample_size(self, experiment_id: str) -> Record:
        """Return how many observations there are, and how many are needed."""
        path = endpoint("/experiments/{}/analytics/sample-size", experiment_id)
        return self.api.call("GET", path, Record)

    def get_analytics_timeseries(self, experiment_id: str) -> Record:
        """Return the comparison over time."""
        path = endpoint("/experiments/{}/analytics/timeseries", experiment_id)
        return self.api.call("GET", path, Record)

    def _step(self, step: str, experiment_id: str) -> Experiment:
        path = endpoint(f"/experiments/{{}}/{step}", experiment_id)
        return self.api.call("POST", path, Experiment, body={})


class AsyncExperimentsAPI:
    """:class:`ExperimentsAPI` for programs with an event loop."""

    def __init__(self, api: HttpTransport, org_id: str) -> None:
        self._sync = ExperimentsAPI(api, org_id)

    create = in_thread(ExperimentsAPI.create)
    list = in_thread(ExperimentsAPI.list)
    get = in_thread(ExperimentsAPI.get)
    start = in_thread(ExperimentsAPI.start)
    pause = in_thread(ExperimentsAPI.pause)
    resume = in_thread(ExperimentsAPI.resume)
    complete = in_thread(ExperimentsAPI.complete)
    cancel = in_thread(ExperimentsAPI.cancel)
    update_allocations = in_thread(ExperimentsAPI.update_allocations)
    get_target_groups = in_thread(ExperimentsAPI.get_target_groups)
    set_target_groups = in_thread(ExperimentsAPI.set_target_groups)
    add_target_group = in_thread(ExperimentsAPI.add_target_group)
    remove_target_group = in_thread(ExperimentsAPI.remove_target_group)
    get_analytics = in_thread(ExperimentsAPI.get_analytics)
    get_analytics_sample_size = in_thread(ExperimentsAPI.get_analytics_sample_size)
    get_analytics_timeseries = in_thread(ExperimentsAPI.get_analytics_timeseries)
