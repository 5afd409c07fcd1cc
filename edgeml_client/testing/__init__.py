"""Parts for the tests of programs that use this SDK."""

from edgeml_client.testing.fake_clock import FakeClock
from edgeml_client.testing.scripted_server import Exchange, Reply, ScriptedServer

__all__ = ["Exchange", "FakeClock", "Reply", "ScriptedServer"]
