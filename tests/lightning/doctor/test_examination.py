"""Each check names what it found, what it means, and what to do."""

from __future__ import annotations

import lightning as L
import pytest
import pytorch_lightning
import torch

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.doctor import Finding, Report, Verdict, examine
from tests.lightning.doctor import patients


def test_a_healthy_module_passes_every_check() -> None:
    report = examine(patients.Healthy())

    assert {finding.verdict for finding in report.findings} == {Verdict.PASS}
    assert report.worst is Verdict.PASS
    assert report["parameters"].found == "49 to train in 4 arrays"  # 4 * 8 + 8 + 8 + 1
    assert report["optimizers"].found == "Adam"
    assert "equal to autograd's" in report["proximal gradient"].found


def test_the_module_and_the_random_streams_stay_as_they_were() -> None:
    module = patients.Healthy()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    stream = torch.get_rng_state()

    examine(module)

    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(stream, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("module_class", "check", "verdict", "found", "advice"),
    [
        (patients.Lazy, "parameters", "fail", "head.weight, head.bias", "run one batch"),
        (patients.Empty, "parameters", "fail", "0 frozen", "unfreeze"),
        (patients.Frozen, "parameters", "fail", "49 frozen", "unfreeze"),
        (patients.Double, "number types", "warn", "float64", "more than float32"),
        (patients.Complex, "number types", "fail", "phases", "pairs of real"),
        (
            patients.Normalized,
            "batch statistics",
            "warn",
            "statistics of body.1 are averaged over devices",
            "local",
        ),
        (patients.Normalized, "buffers", "pass", "1 integer or boolean (body.1.num_batches_tracked)", ""),
        (patients.Tied, "tied weights", "pass", "body.0.weight = body.1.weight", ""),
        (patients.LineSearch, "optimizers", "fail", "LBFGS evaluates the loss several times", "first-order"),
        (patients.Unused, "unused parameters", "warn", "spare.weight, spare.bias", "freeze"),
        (patients.Manual, "proximal gradient", "warn", "manual optimization", "unscaled"),
        (patients.Interfering, "proximal gradient", "warn", "differs from autograd's", "a hook changes"),
        (patients.NoLoss, "proximal gradient", "fail", "no parameter got a gradient", "return a loss"),
        (patients.Broken, "training step", "fail", "KeyError: 'images'", "fast_dev_run"),
        (patients.Quits, "training step", "fail", "SystemExit: 0", "fast_dev_run"),
        (patients.Rarely, "proximal gradient", "warn", "manual optimization", "unscaled"),
        (patients.Diverges, "proximal gradient", "fail", "NaN or infinite", "make the loss finite"),
        (patients.CopiesNothing, "copies", "fail", "something else than a copy", "__deepcopy__"),
        (patients.Uncopyable, "copies", "fail", "TypeError: a connection cannot be copied", "setup()"),
        (patients.Unpicklable, "copies", "warn", "not pickled", "module level"),
        (patients.WithoutData, "training step", "warn", "no data", "--data"),
    ],
)
def test_what_is_found(
    module_class: type[L.LightningModule], check: str, verdict: str, found: str, advice: str
) -> None:
    finding = examine(module_class())[check]

    assert finding.verdict == verdict
    assert found in finding.found
    assert advice in finding.advice


@pytest.mark.parametrize("module_class", [patients.ReturnsDict, patients.BuildsLate])
def test_other_ways_to_write_a_module_pass_as_well(module_class: type[L.LightningModule]) -> None:
    assert examine(module_class()).worst is Verdict.PASS


@pytest.mark.parametrize("data", [patients.rows(), patients.Rows()])
def test_data_may_be_a_loader_or_a_data_module(data: object) -> None:
    report = examine(patients.WithoutData(), data)  # type: ignore[arg-type]

    assert report["proximal gradient"].verdict is Verdict.PASS


def test_what_is_no_data_is_said_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match="a LightningDataModule or a DataLoader, not list"):
        examine(patients.Healthy(), [1, 2])  # type: ignore[arg-type]


def test_a_head_is_split_off_by_whole_path_segments() -> None:
    kept = examine(patients.Healthy(), head_layers=["head"])["head"]
    missing = examine(patients.Healthy(), head_layers=["hea"])["head"]

    assert kept.found == "head: 9 numbers stay on the device, 40 travel"
    assert missing.verdict is Verdict.FAIL
    assert "Did you mean 'head'?" in missing.found


def test_the_size_of_an_update_is_that_of_its_file() -> None:
    """49 parameters of 4 bytes are 196 bytes; the header of the file is larger."""
    found = examine(patients.Healthy())["update size"].found

    assert 0.2 < float(found.split(" kB")[0]) < 1.5


def test_a_module_of_the_older_package_is_refused() -> None:
    class Old(pytorch_lightning.LightningModule):  # type: ignore[misc]
        pass

    with pytest.raises(ConfigurationError, match="import lightning as L"):
        examine(Old())  # type: ignore[arg-type]


def test_the_gravest_comes_first_and_the_table_wraps() -> None:
    report = examine(patients.Unused(), head_layers=["nothing"])

    table = str(report).splitlines()

    assert table[0] == "Unused: 9 pass, 1 warn, 1 fail"
    assert table[1].startswith("fail  head")
    assert any(line.lstrip().startswith("-> ") for line in table)
    assert max(len(line) for line in table) <= 100


def test_a_check_that_was_not_made_is_a_key_error() -> None:
    report = Report("Net", (Finding(check="buffers", verdict=Verdict.PASS, found="none"),))

    with pytest.raises(KeyError, match="head"):
        report["head"]
