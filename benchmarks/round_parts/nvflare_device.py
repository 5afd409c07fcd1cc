"""A device of NVFlare's simulation: its client API in a loop, as its examples write it."""

from __future__ import annotations

import nvflare.client as flare
import torch


def main() -> None:
    """Change every model that comes a little."""
    torch.set_num_threads(1)
    flare.init()
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        for value in received.params.values():
            value.add_(1e-4)
        flare.send(flare.FLModel(params=received.params, meta={"NUM_STEPS_CURRENT_ROUND": 10}))


if __name__ == "__main__":
    main()
