"""Rounds of a number of steps: a loader that goes on, in every round, where the last one stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.fabric.utilities.data import (
    _set_sampler_epoch as set_sampler_epoch,  # pyright: ignore[reportPrivateUsage] - what a fit itself does, wrapped samplers too
)
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.data import (
    _is_dataloader_shuffled as is_shuffled,  # pyright: ignore[reportPrivateUsage] - what Lightning itself asks
)

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.randomness import RandomState, borrowed_randomness, capture_randomness

__all__ = ["CyclingLoader", "DataPlace", "LocalSteps"]


@dataclass(frozen=True, slots=True)
class DataPlace:
    """A place in the passes over the data.

    Attributes:
        began: Where the random streams stood when the pass began.
        num_taken: Batches taken since.
        pass_number: Counts from 0.
    """

    began: RandomState
    num_taken: int
    pass_number: int


class CyclingLoader:
    """A loader of a fixed number of batches that keeps its place: iterated again, it goes on.

    When the data is used up it begins the next pass, in a new order where the loader shuffles.

    Args:
        loader: The user's loader.
        num_batches: How many batches one iteration gives.

    Example:
        >>> cycling = CyclingLoader([0, 1, 2], num_batches=2)
        >>> [list(cycling) for _ in range(3)]
        [[0, 1], [2, 0], [1, 2]]
    """

    def __init__(self, loader: Iterable[Any], *, num_batches: int) -> None:
        self.loader = loader
        self.num_batches = num_batches
        self._current: Iterator[Any] | None = None
        self._began: RandomState | None = None
        self._num_taken = 0
        self._num_passes = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.num_batches):
            yield self._take()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the loader's own
        """Return what Lightning and this package ask of a loader, such as its dataset and sampler."""
        if name in {"dataset", "sampler", "batch_sampler", "batch_size"}:
            return getattr(self.loader, name)
        raise AttributeError(name)

    @property
    def place(self) -> DataPlace | None:
        """Where it is; ``None`` before the first batch."""
        if self._began is None:
            return None
        return DataPlace(self._began, self._num_taken, self._num_passes - 1)

    def move_to_(self, place: DataPlace | None) -> None:
        """Go to an earlier :attr:`place`: the order is drawn again and read up to there."""
        self._current, self._began, self._num_taken, self._num_passes = None, None, 0, 0
        if place is None:
            return
        self._num_passes = place.pass_number
        with borrowed_randomness(place.began):
            iterator = self._begin_pass()
            for _ in range(place.num_taken):
                next(iterator)
        self._num_taken = place.num_taken

    def _take(self) -> Any:  # noqa: ANN401 - a batch is what the user's data gives
        if self._current is not None:
            for batch in self._current:
                self._num_taken += 1
                return batch
        for batch in self._begin_pass():
            self._num_taken += 1
            return batch
        raise ConfigurationError("the training data is empty: local_steps needs at least one batch")

    def _begin_pass(self) -> Iterator[Any]:
        set_sampler_epoch(self.loader, self._num_passes)
        self._began, self._num_taken = capture_randomness(), 0
        self._num_passes += 1
        self._current = iter(self.loader)
        return self._current


class LocalSteps:
    """Makes every round a number of optimizer steps on data that goes on over the rounds.

    Args:
        trainer: Whose rounds they are; a round is one epoch of it.
        num_steps: Optimizer steps of a round.

    Raises:
        ConfigurationError: ``num_steps`` is less than 1, or the trainer's rounds have several epochs.
    """

    def __init__(self, trainer: L.Trainer, *, num_steps: int) -> None:
        if num_steps < 1:
            raise ConfigurationError(f"local_steps must be at least 1, not {num_steps}")
        if trainer.max_epochs != 1:
            raise ConfigurationError(
                f"a round of local_steps is one epoch, not max_epochs={trainer.max_epochs}: give only one"
            )
        self._trainer = trainer
        self._num_batches = num_steps * trainer.accumulate_grad_batches
        self._source: object = None
        self._loader: CyclingLoader | None = None
        self._pending: DataPlace | None = None

    @property
    def place(self) -> DataPlace | None:
        """Where the data is."""
        return self._pending if self._loader is None else self._loader.place

    def move_to_(self, place: DataPlace | None) -> None:
        """Go to a place, now or when there is data."""
        if self._loader is None:
            self._pending = place
        else:
            self._loader.move_to_(place)

    @contextmanager
    def cycled(
        self,
        module: L.LightningModule,
        *,
        datamodule: L.LightningDataModule | None,
        train_dataloaders: Any,  # noqa: ANN401 - what Lightning takes
    ) -> Generator[Any]:
        """Have Lightning find the cycling loader instead of the user's; yields what to fit on."""
        if train_dataloaders is not None and not isinstance(train_dataloaders, L.LightningDataModule):
            yield self._loader_for(train_dataloaders, lambda: train_dataloaders)
            return
        source: Any = datamodule or train_dataloaders or module
        original = source.train_dataloader
        source.train_dataloader = lambda: self._loader_for(source, original)
        try:
            yield train_dataloaders
        finally:
            del source.train_dataloader

    def _loader_for(self, source: object, make: Callable[[], Any]) -> CyclingLoader:
        if self._loader is None or self._source is not source:
            self._loader = CyclingLoader(self._prepared(make()), num_batches=self._num_batches)
            self._loader.move_to_(self._pending)
            self._source, self._pending = source, None
        return self._loader

    def _prepared(self, loader: Any) -> Any:  # noqa: ANN401 - as above
        """Give the loader its part of the data where several processes train: Lightning sees only ours."""
        connector = vars(self._trainer)["_data_connector"]
        return connector._prepare_dataloader(  # noqa: SLF001 - Lightning has no public way
            loader, shuffle=is_shuffled(loader), mode=RunningStage.TRAINING
        )
