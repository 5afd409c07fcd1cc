"""The participants."""
