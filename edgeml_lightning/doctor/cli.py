"""``edgeml doctor``: the examination on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeml_client._version import __version__
from edgeml_client.errors import ConfigurationError
from edgeml_lightning._extra import lightning_extra

if TYPE_CHECKING:
    from edgeml_lightning.doctor.findings import Report

__all__ = ["main"]

_USAGE_ERROR: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 when something failed, 2 for wrong arguments."""
    given = _parser().parse_args(argv)
    try:
        with redirect_stdout(sys.stderr):  # what the module prints is no part of the report
            report = _examine(given.module, given.data, head_layers=given.head)
    except ConfigurationError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201 - a command prints
        return _USAGE_ERROR
    print(_as_json(report) if given.json else report)  # noqa: T201 - as above
    return int(report.worst == "fail")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeml", description="Federated and personalized training for PyTorch Lightning."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="look at a LightningModule before it is federated",
        description="Looks at a LightningModule before it is federated: what travels, what is exact, what to "
        "change. One batch is trained on a copy, on the CPU; nothing is sent anywhere.",
    )
    doctor.add_argument(
        "--module",
        required=True,
        metavar="PACKAGE.MODULE:NAME",
        help="its class, or a function that makes it",
    )
    doctor.add_argument(
        "--data",
        metavar="PACKAGE.MODULE:NAME",
        help="a LightningDataModule's class, or a function that makes one or a DataLoader "
        "(default: the module's own train_dataloader)",
    )
    doctor.add_argument(
        "--head", action="append", default=[], metavar="LAYER", help="what FedPer would keep; may be repeated"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _examine(module_path: str, data_path: str | None, *, head_layers: Sequence[str]) -> Report:
    with lightning_extra("edgeml doctor"):
        from edgeml_lightning.doctor.examination import examine  # noqa: PLC0415 - --help needs no torch
    module = _make(module_path, option="--module")
    data = _make(data_path, option="--data") if data_path else None
    return examine(module, data, head_layers=head_layers)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - checked inside


def _make(path: str, *, option: str) -> object:
    """Import what ``path`` names and call it without arguments."""
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise ConfigurationError(f"{option} must look like package.module:Class, not {path!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made: object = _imported(module_name, name)()
    except (Exception, SystemExit) as exc:
        hint = f"; it is called without arguments: name a function that makes {name}" if _is_call(exc) else ""
        raise ConfigurationError(f"{option} {path}: {type(exc).__name__}: {exc}{hint}") from exc
    return made


def _imported(module_name: str, name: str) -> Callable[[], object]:
    found: object = getattr(importlib.import_module(module_name), name)
    if not callable(found):
        raise TypeError(f"{name} must be a class or a function, not {type(found).__name__}")
    return found


def _is_call(error: BaseException) -> bool:
    """Return whether arguments were missing."""
    return isinstance(error, TypeError) and "argument" in str(error)


def _as_json(report: Report) -> str:
    findings = [dataclasses.asdict(finding) for finding in report.findings]
    return json.dumps({"subject": report.subject, "worst": report.worst, "findings": findings}, indent=2)
