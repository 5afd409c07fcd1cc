"""Statistics across the organizations of a federation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.in_thread import in_thread
from edgeml_client._transport.paths import endpoint
from edgeml_client.schemas import Record

__all__ = ["AsyncFederatedAnalyticsAPI", "FederatedAnalyticsAPI"]

Filters = Mapping[str, JsonValue]


class FederatedAnalyticsAPI:
    """The statistics of one federation, computed where the data is.

    Every method raises ``RequestRefusedError`` when the control plane says no, ``ConnectionFailedError`` when
    no answer comes, and ``AuthError`` when there is no usable token.

    Args:
        api: Sends the requests.
        federation_id: The federation.
    """

    def __init__(self, api: HttpTransport, federation_id: str) -> None:
        self.api = api
        self.federation_id = federation_id

    def descriptive(
        self,
        variable: str,
        group_by: str = "device_group",
        group_ids: Sequence[str] | None = None,
        include_percentiles: bool = True,  # noqa: FBT001, FBT002 - as above
        filters: Filters | None = None,
    ) -> Record:
        """Return mean, spread and, if wanted, percentiles of a variable for each group.

        Args:
            variable: The variable.
            group_by: What makes a group.
            group_ids: Only these groups.
            include_percentiles: Whether percentiles are computed as well.
            filters: Only observations with these properties.
        """
        body: dict[str, JsonValue] = {
            "variable": variable,
            "group_by": group_by,
            "include_percentiles": include_percentiles,
        }
        return self._query("descriptive", body, group_ids=group_ids, filters=filters)

    def t_test(
        self,
        variable: str,
        group_a: str,
        group_b: str,
        confidence_level: float = 0.95,
        filters: Filters | None = None,
    ) -> Record:
        """Return whether the means of two groups differ.

        Args:
            variable: The variable.
            group_a: One group.
            group_b: The other.
            confidence_level: In (0, 1).
            filters: Only observations with these properties.
        """
        body: dict[str, JsonValue] = {
            "variable": variable,
            "group_a": group_a,
            "group_b": group_b,
            "confidence_level": confidence_level,
        }
        return self._query("t-test", body, filters=filters)

    def chi_square(
        self,
        variable_1: str,
        variable_2: str,
        group_ids: Sequence[str] | None = None,
        confidence_level: float = 0.95,
        filters: Filters | None = None,
    ) -> Record:
        """Return whether two variables depend on each other.

        Args:
            variable_1: One variable.
            variable_2: The other.
            group_ids: Only these groups.
            confidence_level: In (0, 1).
            filters: Only observations with these properties.
        """
        body: dict[str, JsonValue] = {
            "variable_1": variable_1,
            "variable_2": variable_2,
            "confidence_level": confidence_level,
        }
        return self._query("chi-square", body, group_ids=group_ids, filters=filters)

    def anova(  # noqa: PLR0917 - a published signature
        self,
        variable: str,
        group_by: str = "device_group",
        group_ids: Sequence[str] | None = None,
        confidence_level: float = 0.95,
        post_hoc: bool = True,  # noqa: FBT001, FBT002 - as above
        filters: Filters | None = None,
    ) -> Record:
        """Return whether the means of several groups differ.

        Args:
            variable: The variable.
            group_by: What makes a group.
            group_ids: Only these groups.
            confidence_level: In (0, 1).
            post_hoc: Whether the groups are also compared pairwise.
            filters: Only observations with these properties.
        """
        body: dict[str, JsonValue] = {
            "variable": variable,
            "group_by": group_by,
            "confidence_level": confidence_level,
            "post_hoc": post_hoc,
        }
        return self._query("anova", body, group_ids=group_ids, filters=filters)

    def list_queries(self, limit: int = 50, offset: int = 0) -> Record:
        """Return earlier queries: at most ``limit``, after ``offset`` others."""
        path = endpoint("/federations/{}/analytics/queries", self.federation_id)
        return self.api.call("GET", path, Record, params={"limit": limit, "offset": offset})

    def get_query(self, query_id: str) -> Record:
        """Return one earlier query and its result."""
        path = endpoint("/federations/{}/analytics/queries/{}", self.federation_id, query_id)
        return self.api.call("GET", path, Record)

    def _query(
        self,
        kind: str,
        body: dict[str, JsonValue],
        *,
        group_ids: Sequence[str] | None = None,
        filters: Filters | None = None,
    ) -> Record:
        if group_ids is not None:
            body["group_ids"] = list(group_ids)
        if filters is not None:
            body["filters"] = dict(filters)
        path = endpoint(f"/federations/{{}}/analytics/{kind}", self.federation_id)
        return self.api.call("POST", path, Record, body=body)


class AsyncFederatedAnalyticsAPI:
    """:class:`FederatedAnalyticsAPI` for programs with an event loop."""

    def __init__(self, api: HttpTransport, federation_id: str) -> None:
        self._sync = FederatedAnalyticsAPI(api, federation_id)

    descriptive = in_thread(FederatedAnalyticsAPI.descriptive)
    t_test = in_thread(FederatedAnalyticsAPI.t_test)
    chi_square = in_thread(FederatedAnalyticsAPI.chi_square)
    anova = in_thread(FederatedAnalyticsAPI.anova)
    list_queries = in_thread(FederatedAnalyticsAPI.list_queries)
    get_query = in_thread(FederatedAnalyticsAPI.get_query)
