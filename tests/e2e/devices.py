"""The organization of the devices in these tests, and what enrols one."""

from collections.abc import Callable

from edgeml_client import FederatedClient

ORG = "clinic-a"
Enrol = Callable[[str], FederatedClient]
