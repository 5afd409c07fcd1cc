"""The clients of the control plane, one for each of its domains."""
