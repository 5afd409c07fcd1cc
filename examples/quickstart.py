"""A federation of ten devices learns scikit-learn's digits, once with FedAvg and once with Ditto.

Starts a control plane in this process, enrols the devices with tokens of their own, gives each of them two
label shards of the data, trains for some rounds, and shows how accurate the shared and the personal models
are on each device's held-out digits. Writes quickstart.png and quickstart.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from edgeml_client.errors import ConfigurationError

STRATEGIES: Final = ("fedavg", "fedprox", "ditto", "fedper")
NUM_DIGITS: Final = 1797
MAX_DEVICES: Final = 100
"""Each then holds 17 or 18 digits, and is tested on 3 or 4 of them."""


def main(arguments: list[str] | None = None) -> None:
    """Run the federations that the command line asks for, and show what came out."""
    options = _parse(arguments)
    print("Loading torch and Lightning ...", flush=True)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        from quickstart_federations import run  # noqa: PLC0415 - late, so that --help answers at once

        run(
            strategies=options.strategy,
            num_devices=options.devices,
            num_rounds=options.rounds,
            seed=options.seed,
            out=options.out,
        )
    except (ConfigurationError, OSError) as error:
        sys.exit(f"quickstart: {error}")
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the former into the latter
        sys.exit("quickstart: interrupted; nothing was written")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=_at_least_one, default=15, help="rounds of each federation")
    parser.add_argument(
        "--devices", type=_devices, default=10, help=f"devices in each federation, at most {MAX_DEVICES}"
    )
    parser.add_argument(
        "--strategy",
        nargs="+",
        choices=STRATEGIES,
        default=["fedavg", "ditto"],
        help="how devices train; a federation for each",
    )
    parser.add_argument("--seed", type=_at_least_zero, default=0, help="the same seed gives the same figures")
    parser.add_argument(
        "--out", type=Path, default=Path("quickstart-out"), help="folder for picture and figures"
    )
    return parser.parse_args(arguments)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _at_least_one(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _devices(text: str) -> int:
    number = _at_least_one(text)
    if number > MAX_DEVICES:
        raise argparse.ArgumentTypeError(
            f"{number} devices would share {NUM_DIGITS:,} digits, too few to train and to test each of them; "
            f"choose at most {MAX_DEVICES}"
        )
    return number


def _at_least_zero(text: str) -> int:
    number = _whole(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


if __name__ == "__main__":
    main()
