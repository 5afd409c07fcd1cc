"""Pure tensor functions under the callbacks."""

from edgeml_lightning.functional.proximal import add_proximal_gradient_, proximal_penalty

__all__ = ["add_proximal_gradient_", "proximal_penalty"]
