"""Pure tensor functions under the callbacks."""

from edgeml_lightning.functional.control_variates import add_correction_, next_variate, variate_correction
from edgeml_lightning.functional.mixing import alpha_gradient, mix_
from edgeml_lightning.functional.proximal import add_proximal_gradient_, proximal_penalty

__all__ = [
    "add_correction_",
    "add_proximal_gradient_",
    "alpha_gradient",
    "mix_",
    "next_variate",
    "proximal_penalty",
    "variate_correction",
]
