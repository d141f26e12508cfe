"""Loss and accuracy summed over batches, on the device, and read once in a while."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError


def tally(logits: Tensor, labels: Tensor) -> Tensor:
    """[summed cross-entropy, right answers, images] float64, on the device of `logits`.

    `logits` [B, num_classes], `labels` [B] int64.
    """
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, right.double(), torch.full_like(loss, len(labels))])


def means(totals: Tensor, epoch: int) -> tuple[float, float]:
    """Mean loss and accuracy of a sum of tallies.

    Raises:
        UserError: the loss is not finite.
    """
    loss, right, images = totals.tolist()
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is no longer a finite number (epoch {epoch}); lower the learning rate. "
            "The checkpoint of the epoch before is intact"
        )
    return loss / images, right / images
