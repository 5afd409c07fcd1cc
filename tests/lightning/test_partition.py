"""A module's arrays divide into received, sent and kept ones by whole path segments."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.partition import partition
from edgeml_lightning.strategies import FedAvg, FedBN, FedPer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm1d(4)
        self.bn10 = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.accuracy = MulticlassAccuracy(2)


def test_all_is_shared_but_counters_are_not_sent() -> None:
    """Integer buffers are received, and never sent: a mean of counters is none."""
    split = partition(Net())

    assert split.kept == ()
    assert set(split.received) - set(split.sent) == {"bn1.num_batches_tracked", "bn10.num_batches_tracked"}
    assert "bn1.running_var" in split.sent


def test_a_layer_takes_whole_segments() -> None:
    split = partition(Net(), private_layers=["bn1"])

    assert set(split.kept) == {
        f"bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert "bn10.weight" in split.sent


def test_a_single_array_can_be_private() -> None:
    assert partition(Net(), private_layers=["head.bias"]).kept == ("head.bias",)


def test_local_buffers_stay_counters_included() -> None:
    split = partition(Net(), buffers="local")

    assert set(split.kept) == {
        f"{layer}.{name}"
        for layer in ("bn1", "bn10")
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert not set(split.kept) & set(split.received)


def test_reset_buffers_are_received_and_not_sent() -> None:
    split = partition(Net(), buffers="reset")

    assert "bn1.running_mean" in split.received
    assert "bn1.running_mean" not in split.sent
    assert split.kept == ()


def test_an_unknown_layer_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        ConfigurationError, match=r"no layer 'haed'.*Did you mean 'head'\?.*accuracy, bn1, bn10"
    ):
        FedPer(["haed"]).split(Net())


def test_a_layer_of_a_megabyte_is_refused_at_once_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="no layer 'xxx") as caught:
        FedPer(["x" * 10**6]).split(Net())

    assert len(str(caught.value)) < 1000


def test_a_layer_without_arrays_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no layer 'accuracy' that holds arrays"):
        partition(Net(), private_layers=["accuracy"])


def test_weights_tied_across_the_boundary_are_refused() -> None:
    """One tensor cannot be both averaged and personal."""
    model = nn.ModuleDict({"embed": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    model["head"].weight = model["embed"].weight

    with pytest.raises(ConfigurationError, match=r"'embed.weight' and 'head.weight'"):
        partition(model, private_layers=["head"])


def test_weights_tied_on_one_side_are_fine() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight

    split = partition(model, private_layers=["head"])

    assert {"a.weight", "b.weight"} <= set(split.sent)


def test_a_head_cannot_be_the_whole_model() -> None:
    with pytest.raises(ConfigurationError, match="no parameter is left to share"):
        partition(Net(), private_layers=["bn1", "bn10", "head"])


def test_compiled_layers_go_by_their_own_names() -> None:
    model = nn.ModuleDict({"body": torch.compile(nn.Linear(4, 4), backend="eager"), "head": nn.Linear(4, 2)})

    assert partition(model, private_layers=["head"]).sent == ("body.bias", "body.weight")
    assert partition(model, private_layers=["body"]).kept == ("body.bias", "body.weight")


class Normalized(nn.Module):
    """One layer of each of torch's normalizations, and one that only looks like it."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.Linear(4, 4)
        self.batch = torch.compile(nn.BatchNorm2d(4), backend="eager")
        self.instance = nn.InstanceNorm1d(4, affine=True)
        self.bare = nn.InstanceNorm1d(4)
        self.layer = nn.LayerNorm(4)
        self.group = nn.GroupNorm(2, 4)
        self.root = nn.RMSNorm(4)


def test_normalization_is_found_by_its_type() -> None:
    """A layer's name says nothing, and one without arrays has nothing to keep."""
    assert set(FedBN().private_layers(Normalized())) == {"batch", "instance", "layer", "group", "root"}
    assert FedBN().split(Normalized()).sent == ("bn.bias", "bn.weight")


def test_normalization_can_be_narrowed_to_the_papers() -> None:
    split = FedBN(layer_types=(nn.BatchNorm2d,)).split(Normalized())

    assert {name.partition(".")[0] for name in split.kept} == {"batch"}


def test_a_model_without_normalization_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Linear has no layer with arrays.*LayerNorm.*FedAvg\(\)"):
        FedBN().split(nn.Linear(4, 2))


class Adapted(nn.Module):
    """A frozen stem and a trained head, each with normalization without parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False))
        self.stem.requires_grad_(requires_grad=False)
        self.head = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, affine=False))
        self.stem.register_buffer("scale", torch.ones(4))


def test_only_trainable_parameters_and_the_buffers_of_their_layers_travel() -> None:
    """Running statistics of the frozen stem change with every batch, and so are kept; its scale does not."""
    split = partition(Adapted(), trainable_only=True)

    assert split.sent == ("head.0.bias", "head.0.weight", "head.1.running_mean", "head.1.running_var")
    assert set(split.received) - set(split.sent) == {"head.1.num_batches_tracked"}
    assert split.kept == ("stem.1.num_batches_tracked", "stem.1.running_mean", "stem.1.running_var")
    assert split.fixed == ("stem.0.bias", "stem.0.weight", "stem.scale")


def test_what_is_private_is_kept_even_if_it_is_frozen() -> None:
    split = FedPer(["stem"], trainable_only=True).split(Adapted())

    assert split.fixed == ()
    assert "stem.0.weight" in split.kept


def test_every_buffer_may_stay_while_adapters_travel() -> None:
    split = FedAvg(buffers="local", trainable_only=True).split(Adapted())

    assert split.sent == split.received == ("head.0.bias", "head.0.weight")


def test_a_model_that_is_frozen_as_a_whole_has_nothing_to_share() -> None:
    with pytest.raises(ConfigurationError, match="let some of the rest require gradients"):
        partition(Net().requires_grad_(requires_grad=False), trainable_only=True)


def test_the_shared_state_is_what_the_global_model_holds() -> None:
    module = Adapted()

    shared = FedAvg(trainable_only=True).shared_state(module)

    assert set(shared) == set(partition(module, trainable_only=True).received)
    assert shared["head.0.weight"].data_ptr() == module.head[0].weight.data_ptr()
