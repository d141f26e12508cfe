"""Loss and accuracy summed over batches, on the device, and read once in a while."""

from __future__ import annotations

import math
from collections.abc import Iterable

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
        UserError: the loss is not finite, or there is none.
    """
    loss, right, images = totals.tolist()
    if not images:
        raise UserError(
            f"none of the images to validate or test with is whole (epoch {epoch}); get them again"
        )
    if not math.isfinite(loss):
        raise _not_finite("the loss is", epoch)
    return loss / images, right / images


def check_finite(parameters: Iterable[Tensor], epoch: int) -> None:
    """Before they go into a checkpoint that no validation has looked at.

    Raises:
        UserError: one of `parameters` holds a number that is not finite.
    """
    if not torch.stack([parameter.isfinite().all() for parameter in parameters]).all():
        raise _not_finite("the weights are", epoch)


def _not_finite(what: str, epoch: int) -> UserError:
    return UserError(
        f"{what} no longer finite (epoch {epoch}): start anew with a lower learning rate, "
        "in another --output-dir"
    )
