"""``python -m edgeml_lightning.doctor``: the command, where another package has taken its name."""

import sys

from edgeml_lightning.doctor.cli import main

raise SystemExit(main(["doctor", *sys.argv[1:]]))
