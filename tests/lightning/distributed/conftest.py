"""One device, alone and as two processes, in organizations of its own."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from edgeml_lightning import Scaffold, model_state
from edgeml_server import EmbeddedServer
from tests.lightning.distributed.launch import values_of
from tests.lightning.distributed.scenarios import CASES, Kind, Net, Played, Seat, State, play_all

PLAYED: dict[Kind, list[str]] = {
    "ddp": [name for name in CASES if name != "two rounds"],
    "fsdp2": [
        name for name in CASES if name not in {"two rounds", "ditto", "apfl", "scaffold", "fedprox in bf16"}
    ],
}
"""Which cases are played with which strategy of Lightning's."""


class Organization:
    """Holds one model a case, and rounds of it."""

    def __init__(self, plane: EmbeddedServer, folder: Path) -> None:
        self.plane, self._folder = plane, folder
        self.org_id = f"org-{uuid.uuid4().hex[:8]}"

    def seat(self, device: str = "device") -> Seat:
        """Return a new device's place."""
        token = self.plane.create_bootstrap_token(org_id=self.org_id)
        return Seat(self.plane.url, self.org_id, token, self._folder / self.org_id / device, device)

    def open_rounds(self, name: str) -> str:
        """Register the model of a case, open its rounds, and return the first one's id."""
        module = CASES[name].make()
        shared = module.model if hasattr(module, "model") else module
        prefix = "model." if hasattr(module, "model") else ""
        state = {f"{prefix}{key}": array for key, array in model_state(shared).items()}
        strategy = CASES[name].strategy
        if isinstance(strategy, Scaffold):
            state = strategy.shared_state(module)
        self.plane.register_model(org_id=self.org_id, name=name, state=state)
        status = self.plane.create_round(org_id=self.org_id, model=name, num_rounds=CASES[name].num_rounds)
        return status.round_id

    def open_stepped_rounds(self, num_rounds: int) -> None:
        """Register the model of the rounds that hand something on, and open them."""
        self.plane.register_model(org_id=self.org_id, name="stepped", state=model_state(Net()))
        self.plane.create_round(org_id=self.org_id, model="stepped", num_rounds=num_rounds)

    def newest(self, names: list[str]) -> dict[str, State]:
        """Return the newest version of each model."""
        with self.seat("reader").client() as reader:
            return {name: reader.pull_global_model(name).numpy_arrays() for name in names}


class Comparison:
    """The same cases played by one process and by two."""

    def __init__(self, plane: EmbeddedServer, folder: Path, kind: Kind, names: list[str]) -> None:
        organizations = [Organization(plane, folder), Organization(plane, folder)]
        for organization in organizations:
            for name in names:
                organization.open_rounds(name)
        alone, together = organizations
        self.alone: dict[str, Played] = play_all(0, alone.seat(), "alone", names)
        self.first, self.second = values_of(play_all, together.seat(), kind, names)
        self.global_alone, self.global_together = alone.newest(names), together.newest(names)


class Comparisons:
    """One comparison of each kind for all tests; one that failed is not tried again."""

    def __init__(self, plane: EmbeddedServer, folder: Path) -> None:
        self._plane, self._folder = plane, folder
        self._made: dict[Kind, Comparison | Exception] = {}

    def of(self, kind: Kind) -> Comparison:
        if kind not in self._made:
            try:
                self._made[kind] = Comparison(self._plane, self._folder / kind, kind, PLAYED[kind])
            except Exception as exc:  # noqa: BLE001 - raised below, for every test
                self._made[kind] = exc
        made = self._made[kind]
        if isinstance(made, Exception):
            raise made
        return made


@pytest.fixture(scope="session")
def comparisons(control_plane: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Comparisons:
    return Comparisons(control_plane, tmp_path_factory.mktemp("compared"))


@pytest.fixture
def organization(control_plane: EmbeddedServer, tmp_path: Path) -> Organization:
    return Organization(control_plane, tmp_path)
