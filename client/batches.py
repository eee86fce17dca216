"""Examples as padded batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.choices import PriorCorrection
from client.dataset import Example
from model.loss import IGNORED, LogitAdjustment
from model.training import Batch


def collate(examples: Sequence[Example], device: torch.device, correct: Callable[[Example], PriorCorrection] | None = None) -> Batch:
    """Pads on the right; input_ids, targets and valid are [b, t]. `correct` gives each example's logit adjustment."""
    width = max(len(example.tokens) for example in examples)
    ids = np.zeros((len(examples), width), np.int64)
    targets = np.full_like(ids, IGNORED)
    valid = np.zeros(ids.shape, np.bool_)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        ids[row, :length], valid[row, :length] = example.tokens, True
        targets[row, :length][example.learnt] = example.tokens[example.learnt]
    adjustment = _adjustment([correct(example) for example in examples], targets, device) if correct else None
    on_device = [torch.from_numpy(array).to(device) for array in (ids, targets, valid)]
    return Batch(on_device[0], on_device[1], on_device[2], adjustment)


def _adjustment(corrections: Sequence[PriorCorrection], targets: NDArray[np.int64], device: torch.device) -> LogitAdjustment:
    """Rows count the batch's targets in reading order, as the loss selects them; a correction's belong to its example's last ones."""
    ends = np.cumsum((targets != IGNORED).sum(1))
    starts = ends - np.array([correction.length for correction in corrections])
    rows = np.concatenate([start + correction.offsets for start, correction in zip(starts, corrections, strict=True)])
    columns = np.concatenate([correction.columns for correction in corrections])
    values = np.concatenate([correction.values for correction in corrections])
    tensors: list[Tensor] = [torch.from_numpy(array).to(device) for array in (rows, columns, values)]
    return LogitAdjustment(*tensors)
