"""Organizations that train together."""
