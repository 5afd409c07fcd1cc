"""Callbacks that turn a Lightning fit into a federated round."""
