"""Checks that train a copy of the module for one batch, and checks on the copy itself."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - only written, to see whether it can be
from collections.abc import Iterator
from typing import Final

import lightning as L
import numpy as np
from lightning.pytorch.utilities.model_helpers import is_overridden

from edgeml_client.filters import resolve_filters
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.update_file import encode_update
from edgeml_client.updates.vector import DeltaVector
from edgeml_lightning.doctor.findings import Finding, Verdict
from edgeml_lightning.doctor.inventory import listed
from edgeml_lightning.doctor.trial import Trial, TrialData, run_trial
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.exchange import model_state

__all__ = ["check_copies", "check_training", "check_update_size"]

_COMPRESSED: Final = ({"type": "sparsification", "top_k": 0.1}, {"type": "quantization", "bits": 4})

_TOLERANCE: Final = 1e-5
"""Of the largest gradient: two orders of float32 sums differ by about 1e-7 each."""


def check_copies(module: L.LightningModule) -> Finding:
    """Return whether the module can be copied in this process and to another one."""
    try:
        twin = copy.deepcopy(module)
    except Exception as exc:  # noqa: BLE001 - a user's own __deepcopy__ or __reduce__ may raise anything
        return Finding(
            check="copies",
            verdict=Verdict.FAIL,
            found=f"copy.deepcopy raises {type(exc).__name__}: {exc}",
            advice="Ditto and APFL train a copy: make in setup() what cannot be copied, or use a DittoModule",
        )
    if twin is module or type(twin) is not type(module):
        return Finding(
            check="copies",
            verdict=Verdict.FAIL,
            found="copy.deepcopy returns something else than a copy",
            advice="let __deepcopy__ return a module of its own, or leave it out",
        )
    try:
        pickle.dumps(module)
    except Exception as exc:  # noqa: BLE001 - as above
        return Finding(
            check="copies",
            verdict=Verdict.WARN,
            found=f"it can be copied, but not pickled ({type(exc).__name__}: {exc})",
            advice="nothing, unless processes are spawned: move lambdas and local classes to module level",
        )
    return Finding(check="copies", verdict=Verdict.PASS, found="it can be copied and pickled")


def check_update_size(module: L.LightningModule) -> Finding:
    """Return how many bytes an update of the module has, whole and compressed."""
    generator = np.random.default_rng(0)
    delta = {
        name: generator.standard_normal(tuple(tensor.shape), dtype=np.float32)
        for name, tensor in model_state(module).items()
        if tensor.is_floating_point()
    }
    header = UpdateHeader(
        round_id="", model_id="", base_version="", base_digest="", device_id="", sample_count=0
    )
    whole = len(encode_update(header, delta))
    ending = split_coded_ending(resolve_filters(_COMPRESSED))[1]
    compressed = whole if ending is None else len(ending.encode(header, DeltaVector.of(delta)))
    return Finding(
        check="update size",
        verdict=Verdict.PASS,
        found=f"{whole / 1e3:,.1f} kB in float32; {compressed / 1e3:,.1f} kB as the largest tenth in 4 bits "
        f"({whole / compressed:.0f} times smaller; add error feedback)",
    )


def check_training(module: L.LightningModule, data: TrialData | None) -> Iterator[Finding]:
    """Yield what one batch shows: optimizers, the proximal gradient against autograd, unused parameters."""
    if data is None and not is_overridden("train_dataloader", module):
        yield Finding(
            check="training step",
            verdict=Verdict.WARN,
            found="not run, because there is no data",
            advice="pass a data module or a data loader: --data package.module:Class",
        )
        return
    try:
        ours = run_trial(module, data, term_in_loss=False)
        autograd = run_trial(module, data, term_in_loss=True)
    except UnsupportedTrainingError as refusal:
        yield Finding(
            check="optimizers", verdict=Verdict.FAIL, found=str(refusal), advice="use a first-order optimizer"
        )
        return
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - a user's own training step may raise anything
        yield Finding(
            check="training step",
            verdict=Verdict.FAIL,
            found=f"{type(exc).__name__}: {exc}",
            advice="make one batch train in a plain Trainer first: Trainer(fast_dev_run=True).fit(...)",
        )
        return
    yield Finding(check="optimizers", verdict=Verdict.PASS, found=", ".join(ours.optimizers) or "none")
    yield _compare(module, ours, autograd)
    yield _unused(ours)


def _compare(module: L.LightningModule, ours: Trial, autograd: Trial) -> Finding:
    if not module.automatic_optimization:
        return Finding(
            check="proximal gradient",
            verdict=Verdict.WARN,
            found="not compared: with manual optimization the loss is the training step's own business",
            advice="nothing: the term is added before each optimizer's step; leave losses unscaled",
        )
    if not ours.gradients:
        return Finding(
            check="proximal gradient",
            verdict=Verdict.FAIL,
            found="the optimizer took no step, or no parameter got a gradient",
            advice="return a loss from training_step, and give the parameters to the optimizer",
        )
    if not all(bool(gradient.isfinite().all()) for gradient in ours.gradients.values()):
        return Finding(
            check="proximal gradient",
            verdict=Verdict.FAIL,
            found="the first batch gives gradients that are NaN or infinite",
            advice="make the loss finite first: updates that are not are refused",
        )
    largest = max(float(gradient.abs().max()) for gradient in autograd.gradients.values())
    apart = max(
        float((gradient - autograd.gradients[name]).abs().max()) for name, gradient in ours.gradients.items()
    )
    relative = apart / largest if largest else apart
    if relative <= _TOLERANCE:
        how = f"to {relative:.0e} of the largest gradient" if relative else "bit for bit"
        found = f"equal to autograd's, {how}"
        return Finding(check="proximal gradient", verdict=Verdict.PASS, found=found)
    return Finding(
        check="proximal gradient",
        verdict=Verdict.WARN,
        found=f"differs from autograd's by {relative:.0e} of the largest gradient",
        advice="random numbers that no seed governs, or training in a shorter type, are reason enough; "
        "otherwise a hook changes the gradient before the term is added",
    )


def _unused(trial: Trial) -> Finding:
    if not trial.unused:
        return Finding(
            check="unused parameters", verdict=Verdict.PASS, found="every parameter got a gradient"
        )
    return Finding(
        check="unused parameters",
        verdict=Verdict.WARN,
        found=f"no gradient in this batch: {listed(dict.fromkeys(trial.unused))}",
        advice="a proximal term leaves them alone in such a step; freeze what is never used",
    )
