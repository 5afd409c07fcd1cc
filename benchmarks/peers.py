"""One virtual environment for each system we compare ourselves with, under ``.peers/NAME``.

``python -m benchmarks.peers`` makes those that are missing; a second run finds them and does nothing. Each is
installed from the package registry with the torch that ``constraints.txt`` pins, so that all of them run the
same kernels. One that cannot be installed does not stop the others: the tables then say why it is absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["PEERS", "Absent", "Installed", "Peer", "ensure"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_FOLDER: Final = _ROOT / ".peers"
_INSTALL_TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True)
class Peer:
    """What to install, and how to know that it works.

    Attributes:
        name: The name of its folder.
        title: Its name in the tables.
        requirements: What pip installs together.
        alone: What pip installs afterwards without its dependencies, whatever Python it asks for.
        probe: Python statements that fail when the installation is of no use.
    """

    name: str
    title: str
    requirements: tuple[str, ...]
    probe: str
    alone: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return a digest of everything the environment is made from."""
        parts = [sys.version, _torch_pin(), *self.requirements, "alone:", *self.alone]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer that is there.

    Attributes:
        python: Its interpreter.
    """

    python: Path


@dataclass(frozen=True, slots=True)
class Absent:
    """A peer that is not there.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer(
            name="edgeml-sdk",
            title="edgeml-sdk 1.0.0",
            requirements=("edgeml-sdk==1.0.0", "numpy"),
            probe="import edgeml.federated_client, edgeml.filters, numpy",
        ),
        Peer(
            name="flower",
            title="Flower 1.41.0",
            # Ray serves its simulation; 1.42 asks for a certifi that clashes with the rest of it.
            requirements=("flwr[simulation]==1.41.0",),
            probe="import flwr.app, flwr.clientapp.mod, flwr.serverapp.strategy, ray",
        ),
        Peer(
            name="nvflare",
            title="NVFlare 2.9.0",
            # Not its extra for torch, which would bring a CUDA build over the pinned one.
            requirements=("nvflare==2.9.0", "pytorch_lightning==2.6.6", "bitsandbytes"),
            probe=(
                "import nvflare.app_opt.lightning.fedprox, nvflare.app_opt.pt.fedproxloss, "
                "nvflare.app_opt.pt.quantization.quantizer"
            ),
        ),
        Peer(
            name="fl4health",
            title="FL4Health 0.4.2",
            # It asks for Python 3.10, torch 2.6 and forty more; the loss that is measured needs torch alone.
            requirements=("numpy",),
            alone=("fl4health==0.4.2",),
            probe="import fl4health.losses.weight_drift_loss",
        ),
    )
}


def ensure(peer: Peer, *, folder: Path = _FOLDER) -> Installed | Absent:
    """Return the peer's environment, which is made if it is missing or made from other requirements.

    Args:
        peer: Which one.
        folder: Where the environments are.
    """
    home = folder / peer.name
    found = find(peer, folder=folder)
    if isinstance(found, Installed):
        return found
    print(f"installing {peer.title} (once; some minutes)", file=sys.stderr, flush=True)
    venv.create(home, with_pip=True, clear=True)
    for step in _steps(peer, home / "bin" / "python"):
        failure = _failure_of(step)
        if failure is not None:
            return Absent(failure)
    (home / "ready.json").write_text(json.dumps({"fingerprint": peer.fingerprint()}), encoding="utf-8")
    return Installed(home / "bin" / "python")


def find(peer: Peer, *, folder: Path = _FOLDER) -> Installed | Absent:
    """Return the peer's environment if it was made before; nothing is installed."""
    home = folder / peer.name
    try:
        made_from = json.loads((home / "ready.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        return Absent("not installed; python -m benchmarks.peers does it")
    if made_from != peer.fingerprint():
        return Absent("installed from other requirements; python -m benchmarks.peers renews it")
    return Installed(home / "bin" / "python")


def _steps(peer: Peer, python: Path) -> list[list[str]]:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [*pip, "--upgrade", "pip>=25.1"],
        [*pip, _torch_pin()],
        [*pip, _torch_pin(), *peer.requirements],
    ]
    if peer.alone:
        steps.append([*pip, "--no-deps", "--ignore-requires-python", *peer.alone])
    same_torch = (
        f"import torch; assert torch.__version__.split('+')[0] == {_torch_pin()[7:]!r}, torch.__version__"
    )
    steps.append([str(python), "-c", f"{same_torch}; {peer.probe}"])
    return steps


def _torch_pin() -> str:
    lines = (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def _failure_of(command: list[str]) -> str | None:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_TIMEOUT_S,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_INSTALL_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or ["it said nothing"]
    return telling[-1][:300]


def main() -> int:
    """Make all environments; say which are there."""
    states = {peer: ensure(peer) for peer in PEERS.values()}
    for peer, state in states.items():
        print(
            f"{peer.title:20} {'ready' if isinstance(state, Installed) else f'not installed: {state.reason}'}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
