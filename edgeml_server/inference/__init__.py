"""Events that devices report about inference."""
