"""A byte-level language model, and text that every Python ships with: the manual behind ``help()``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pydoc_data.topics import topics
from typing import Final

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

__all__ = ["ByteModel", "TextData", "text_of_devices"]

_NUM_BYTES: Final = 256
_CONTEXT: Final = 64
_HELD_OUT: Final = 0.1


class ByteModel(L.LightningModule):
    """A small causal transformer over bytes (Vaswani et al., 2017); about 130,000 parameters.

    Args:
        learning_rate: Of Adam, whose state starts anew in each round.
        width: Of an embedding.
        num_layers: Attention blocks.
    """

    def __init__(self, learning_rate: float = 2e-3, *, width: int = 64, num_layers: int = 2) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.embedding = nn.Embedding(_NUM_BYTES, width)
        self.positions = nn.Parameter(0.02 * torch.randn(_CONTEXT, width))
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, _NUM_BYTES)
        self.register_buffer(
            "mask", nn.Transformer.generate_square_subsequent_mask(_CONTEXT), persistent=False
        )

    @override
    def forward(self, text: Tensor) -> Tensor:
        """Return the logits of each next byte, of shape ``(batch, 64, 256)``, for text of ``(batch, 64)``."""
        hidden = self.embedding(text) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(hidden, mask=self.mask, is_causal=True)))
        return logits

    def _loss(self, batch: Sequence[Tensor]) -> Tensor:
        (windows,) = batch
        logits = self(windows[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    @override
    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        return self._loss(batch)

    @override
    def test_step(self, batch: Sequence[Tensor]) -> None:
        self.log("test_loss", self._loss(batch))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class TextData(L.LightningDataModule):
    """One device's text, cut into windows of 65 bytes; the last tenth is held out.

    Args:
        text: What the device holds.
        num_batches: Batches of 16 windows in an epoch, the same for every device.
    """

    def __init__(self, text: bytes, *, num_batches: int) -> None:
        super().__init__()
        num_windows = len(text) // (_CONTEXT + 1)
        numbers = np.frombuffer(text, dtype=np.uint8)[: num_windows * (_CONTEXT + 1)]
        windows = torch.from_numpy(numbers.reshape(num_windows, _CONTEXT + 1).astype(np.int64))
        num_held_out = max(1, int(_HELD_OUT * num_windows))
        self._train = TensorDataset(windows[:-num_held_out][: 16 * num_batches])
        self._test = TensorDataset(windows[-num_held_out:])

    @override
    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self._train, batch_size=16, shuffle=True)

    @override
    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self._test, batch_size=64)


def text_of_devices(num_devices: int, *, num_batches: int) -> list[TextData]:
    """Return one data module a device, each with whole chapters of the manual that no other device has."""
    shelves: list[bytearray] = [bytearray() for _ in range(num_devices)]
    for chapter in _longest_first(topics):
        min(shelves, key=len).extend(chapter.encode())
    return [TextData(bytes(shelf), num_batches=num_batches) for shelf in shelves]


def _longest_first(chapters: Mapping[str, str]) -> list[str]:
    return sorted(chapters.values(), key=lambda chapter: (-len(chapter), chapter))
