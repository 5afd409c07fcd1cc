"""Federated and personalized training for PyTorch Lightning."""
