"""A program as a user writes it: Lightning itself starts the second process, with this same file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from edgeml_lightning import FederatedTrainer
from tests.lightning.distributed.scenarios import Net, Seat, loader, trainer

if __name__ == "__main__":
    seat = Seat(*sys.argv[1:4], folder=Path(sys.argv[4]))
    federated = FederatedTrainer(seat.client, model="two rounds", trainer=trainer("ddp"))
    history = federated.fit(Net(), train_dataloaders=loader("ddp"), rounds=2)
    told = Path(sys.argv[4]) / f"process-{os.environ['LOCAL_RANK']}.json"
    told.write_text(json.dumps([record.sample_count for record in history]), encoding="utf-8")
