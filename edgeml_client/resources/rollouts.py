"""Bringing a model version to devices step by step."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import JsonValue, TypeAdapter

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.in_thread import in_thread
from edgeml_client._transport.lists import bare
from edgeml_client._transport.paths import endpoint
from edgeml_client.schemas import Record, Rollout, RolloutChange

__all__ = ["AsyncRolloutsAPI", "RolloutsAPI"]

Rollouts: TypeAlias = list[Rollout]  # inside the class, "list" is a method
History: TypeAlias = list[RolloutChange]

_ROLLOUTS: Final[TypeAdapter[Rollouts]] = TypeAdapter(Annotated[list[Rollout], bare("rollouts")])
_HISTORY: Final[TypeAdapter[History]] = TypeAdapter(Annotated[list[RolloutChange], bare("history")])


class RolloutsAPI:
    """The rollouts of models.

    Every method raises ``RequestRefusedError`` when the control plane says no, ``ConnectionFailedError`` when
    no answer comes, and ``AuthError`` when there is no usable token.

    Args:
        api: Sends the requests.
    """

    def __init__(self, api: HttpTransport) -> None:
        self.api = api

    def create(  # noqa: PLR0917 - a published signature
        self,
        model_id: str,
        version: str,
        rollout_percentage: float = 10.0,
        target_percentage: float = 100.0,
        increment_step: float = 10.0,
        start_immediately: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> Rollout:
        """Plan a rollout of one version.

        Args:
            model_id: The model.
            version: The version to bring to devices.
            rollout_percentage: Devices that get it first, in percent.
            target_percentage: Devices that have it at the end, in percent.
            increment_step: What one :meth:`advance` adds, in percent points.
            start_immediately: Start at once instead of by :meth:`start`.
        """
        body: dict[str, JsonValue] = {
            "version": version,
            "rollout_percentage": rollout_percentage,
            "target_percentage": target_percentage,
            "increment_step": increment_step,
            "start_immediately": start_immediately,
        }
        return self.api.call("POST", endpoint("/models/{}/rollouts", model_id), Rollout, body=body)

    def list(self, model_id: str, status_filter: str | None = None) -> Rollouts:
        """Return the rollouts of a model, perhaps only those in one status."""
        return self.api.call(
            "GET",
            endpoint("/models/{}/rollouts", model_id),
            _ROLLOUTS,
            params={"status_filter": status_filter or None},
        )

    def list_active(self, model_id: str) -> Rollouts:
        """Return the rollouts of a model that are under way."""
        return self.api.call("GET", endpoint("/models/{}/rollouts/active", model_id), _ROLLOUTS)

    def get(self, model_id: str, rollout_id: int | str) -> Rollout:
        """Return one rollout."""
        return self.api.call("GET", endpoint("/models/{}/rollouts/{}", model_id, rollout_id), Rollout)

    def start(self, model_id: str, rollout_id: int | str) -> Rollout:
        """Start a planned rollout."""
        return self._step("start", model_id, rollout_id)

    def pause(self, model_id: str, rollout_id: int | str) -> Rollout:
        """Stop handing the version to further devices for now."""
        return self._step("pause", model_id, rollout_id)

    def resume(self, model_id: str, rollout_id: int | str) -> Rollout:
        """Go on with a paused rollout."""
        return self._step("resume", model_id, rollout_id)

    def advance(self, model_id: str, rollout_id: int | str, custom_increment: float | None = None) -> Rollout:
        """Bring the version to more devices.

        Args:
            model_id: The model.
            rollout_id: The rollout.
            custom_increment: Percent points to add instead of the rollout's own step.
        """
        body: dict[str, JsonValue] = {}
        if custom_increment is not None:
            body["custom_increment"] = custom_increment
        return self._step("advance", model_id, rollout_id, body)

    def update_percentage(
        self, model_id: str, rollout_id: int | str, percentage: float, reason: str | None = None
    ) -> Rollout:
        """Set the share of devices that have the version, in percent.

        Args:
            model_id: The model.
            rollout_id: The rollout.
            percentage: The new share.
            reason: Goes to the rollout's history.
        """
        body: dict[str, JsonValue] = {"percentage": percentage}
        if reason is not None:
            body["reason"] = reason
        return self._step("update-percentage", model_id, rollout_id, body)

    def get_status_history(self, model_id: str, rollout_id: int | str) -> History:
        """Return what happened to a rollout, oldest first."""
        path = endpoint("/models/{}/rollouts/{}/status-history", model_id, rollout_id)
        return self.api.call("GET", path, _HISTORY)

    def get_affected_devices(self, model_id: str, rollout_id: int | str) -> Record:
        """Return which devices have the version because of this rollout."""
        path = endpoint("/models/{}/rollouts/{}/affected-devices", model_id, rollout_id)
        return self.api.call("GET", path, Record)

    def delete(
        self,
        model_id: str,
        rollout_id: int | str,
        force: bool = False,  # noqa: FBT001, FBT002 - a published signature
    ) -> Record:
        """Remove a rollout; one that is under way only with ``force``."""
        path = endpoint("/models/{}/rollouts/{}", model_id, rollout_id)
        return self.api.call("DELETE", path, Record, params={"force": force})

    def _step(
        self, step: str, model_id: str, rollout_id: int | str, body: dict[str, JsonValue] | None = None
    ) -> Rollout:
        path = endpoint(f"/models/{{}}/rollouts/{{}}/{step}", model_id, rollout_id)
        return self.api.call("POST", path, Rollout, body=body or {})


class AsyncRolloutsAPI:
    """:class:`RolloutsAPI` for programs with an event loop."""

    def __init__(self, api: HttpTransport) -> None:
        self._sync = RolloutsAPI(api)

    create = in_thread(RolloutsAPI.create)
    list = in_thread(RolloutsAPI.list)
    list_active = in_thread(RolloutsAPI.list_active)
    get = in_thread(RolloutsAPI.get)
    start = in_thread(RolloutsAPI.start)
    pause = in_thread(RolloutsAPI.pause)
    resume = in_thread(RolloutsAPI.resume)
    advance = in_thread(RolloutsAPI.advance)
    update_percentage = in_thread(RolloutsAPI.update_percentage)
    get_status_history = in_thread(RolloutsAPI.get_status_history)
    get_affected_devices = in_thread(RolloutsAPI.get_affected_devices)
    delete = in_thread(RolloutsAPI.delete)
