"""Personal models that devices keep on the control plane."""
