"""What cannot be exact is refused before training, with what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import pytest
import pytorch_lightning
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler

from edgeml_client.errors import ConfigurationError, FilterConfigError
from edgeml_lightning import Ditto, FedAvg, FederatedCallback, FederatedStrategy, FedProx
from edgeml_lightning.callbacks.requirements import check_trainer, require_lightning
from edgeml_lightning.callbacks.sample_count import Shard, shard_of, total_samples
from edgeml_lightning.errors import UnsupportedTrainingError
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer


def test_processes_that_end_with_the_fit_are_refused() -> None:
    running = trainer(FederatedCallback(None, model="digits"), strategy="ddp_spawn", devices=2)

    with pytest.raises(UnsupportedTrainingError, match=r"would end with them: use strategy='ddp'"):
        running.callbacks[0].setup(running, DigitsNet(), "fit")  # type: ignore[attr-defined]


def test_two_federations_in_one_fit_are_refused() -> None:
    two = [FederatedCallback(None, model=model) for model in ("digits", "letters")]

    with pytest.raises(ConfigurationError, match=r"models digits, letters.* give each its own Trainer"):
        trainer(*two).fit(DigitsNet(), loader(digits_of(0)))


@pytest.mark.parametrize("strategy", [FedProx(0.1), Ditto(0.1)], ids=["FedProx", "Ditto"])
def test_sparse_gradients_are_refused_where_a_term_is_added(
    federation: Federation, strategy: FederatedStrategy
) -> None:
    """The term pulls every row of the table in every step: a gradient of the batch's rows cannot hold it."""

    class Sparse(DigitsNet):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 2, sparse=True)

    federation.register_model(seeded(Sparse))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)

    with pytest.raises(UnsupportedTrainingError, match=r"gradient of table has only the rows.*sparse=False"):
        trainer(callback).fit(seeded(Sparse), loader(digits_of(0)))

    callback.strategy = FedAvg()
    trainer(callback).fit(seeded(Sparse), loader(digits_of(0)))
    assert callback.last_round is not None


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (DDPStrategy(model_averaging_period=4), "without ddp_comm_state"),
        (FSDPStrategy(), r"FSDPStrategy keeps parameters .*strategy='ddp'"),
    ],
)
def test_engines_that_a_round_cannot_be_exact_with_are_refused(strategy: Strategy, words: str) -> None:
    running = trainer(strategy=strategy) if isinstance(strategy, DDPStrategy) else trainer()
    running._accelerator_connector.strategy = strategy  # FSDP itself refuses a CPU

    with pytest.raises(UnsupportedTrainingError, match=words):
        check_trainer(running)


def test_the_older_lightning_package_is_named() -> None:
    """Its classes have the same names, and are others."""
    old = pytorch_lightning.Trainer(logger=False, accelerator="cpu")

    with pytest.raises(ConfigurationError, match=r"import lightning as L"):
        FederatedCallback(None, model="digits").setup(old, DigitsNet(), "fit")  # type: ignore[arg-type]


def test_what_is_no_client_is_refused_when_it_is_given() -> None:
    with pytest.raises(ConfigurationError, match="must be a FederatedClient"):
        FederatedCallback("http://127.0.0.1", model="digits")  # type: ignore[arg-type]


@pytest.mark.parametrize("wait_s", [-1.0, float("nan")])
def test_a_wait_that_is_no_duration_is_refused_when_it_is_given(wait_s: float) -> None:
    with pytest.raises(ConfigurationError, match="wait_s must be a number of seconds, 0 or more"):
        FederatedCallback(None, model="digits", wait_s=wait_s)


def test_a_strength_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigurationError, match="lambda_ditto must be a number"):
        Ditto(lambda_ditto="0.1")  # type: ignore[arg-type]


def test_a_filter_that_cannot_work_is_refused_when_it_is_given() -> None:
    with pytest.raises(FilterConfigError, match="there is no filter 'gradient_clp'"):
        FederatedCallback(None, model="digits", filters=[{"type": "gradient_clp"}])


def test_anything_else_is_named_too() -> None:
    with pytest.raises(ConfigurationError, match="a lightning LightningModule is needed, not int"):
        require_lightning(3, kind=L.LightningModule)


@pytest.mark.parametrize(
    ("arguments", "max_batches", "expected"),
    [
        ({}, float("inf"), 40),
        ({"batch_size": 16, "drop_last": True}, float("inf"), 40),
        ({"batch_size": 8}, 2, 16),
        ({"batch_size": 8}, 99, 40),
        ({"batch_size": None}, 2, 40),
        ({"sampler": SubsetRandomSampler([1, 2, 3])}, float("inf"), 3),
    ],
    ids=["all", "incomplete batches", "limited", "limited beyond", "no batches", "a subset"],
)
def test_samples_are_those_an_epoch_draws_from(
    arguments: dict[str, Any], max_batches: float, expected: int
) -> None:
    assert shard_of(DataLoader(digits_of(0), **arguments), max_batches=max_batches) == Shard(None, expected)


@pytest.mark.parametrize("loaders", [[loader(digits_of(0))], {"a": loader(digits_of(0))}, None])
def test_several_loaders_need_a_sample_count(loaders: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"sample_count=\.\.\."):
        shard_of(loaders)


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no training samples"):
        total_samples([shard_of(DataLoader(digits_of(0), sampler=SubsetRandomSampler([])))])


def test_data_that_claims_a_length_it_does_not_have_needs_a_sample_count() -> None:
    class Unsized(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

        def __len__(self) -> int:
            raise TypeError("a stream has no length")

    with pytest.raises(ConfigurationError, match="sample_count"):
        shard_of(DataLoader(Unsized()))
