"""Searches a cell with a candidate operation of your own, then trains what was found.

    python examples/custom_operation.py

Runs on the digits that scikit-learn ships, on the CPU, without a GPU or a download.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from pcdarts_fast.nn.operations import OPERATIONS
from pcdarts_fast.run.events import EpochDone
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search import Finished, search
from pcdarts_fast.train.events import Finished as Trained
from pcdarts_fast.train.loop import train
from pcdarts_fast.train.presets import train_config


# 1. An operation is any module that maps [B, C, H, W] to [B, C, H / stride, W / stride]. Begin it
#    with a ReLU and end it in a batch-norm, as the built-in ones do, so that alpha compares
#    operations of one scale. `affine` is False in the search and True in the final network.
class GatedConv(nn.Module):
    """A 3x3 convolution whose output channels are weighed by a look at all of them."""

    def __init__(self, C: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.convolution = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, stride, 1, bias=False))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C, 1), nn.Sigmoid())
        self.normalization = nn.BatchNorm2d(C, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        normalized: Tensor = self.normalization(y * self.gate(y))
        return normalized


def main(folder: Path, *, epochs: int = 12, train_epochs: int = 20) -> float:
    """Searches and trains in `folder`, prints both, and returns the test accuracy in [0, 1]."""
    # 2. One row makes its name known to the super-net and to the network of a genotype.
    OPERATIONS["gated_conv_3x3"] = GatedConv

    # 3. The candidates of every edge, among the settings of the search.
    config = replace(
        search_config("digits"),
        primitives=("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "gated_conv_3x3"),
        epochs=epochs,
        frozen_epochs=epochs // 4,
    )

    # 4. A search is an iterator of events; the last one holds the genotype.
    for event in search(config, folder / "search"):
        match event:
            case EpochDone(metrics):
                print(f"search epoch {metrics['epoch'] + 1}: {metrics['valid_accuracy']:.1%}")
            case Finished(genotype):
                print(genotype.to_json())
    edges = (*genotype.normal, *genotype.reduce)
    chosen = sum(primitive == "gated_conv_3x3" for primitive, _ in edges)
    print(f"gated_conv_3x3 was chosen for {chosen} of {len(edges)} edges")

    # 5. The network of the genotype, trained from scratch: its test accuracy is what counts.
    settings = replace(train_config("digits"), epochs=train_epochs)
    for event in train(settings, genotype, folder / "train"):
        match event:
            case EpochDone(metrics):
                print(f"train epoch {metrics['epoch'] + 1}: {metrics['test_accuracy']:.1%}")
            case Trained(metrics):
                accuracy = float(metrics["test_accuracy"])
    print(f"test accuracy {accuracy:.2%}, weights in {folder / 'train' / 'weights.safetensors'}")
    return accuracy


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/custom_operation"))
