"""`pcdarts count`: parameters and multiply-adds of a derived network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table

from ..run.presets import images_of
from ..run.ranges import COUNT, check_range
from ..space import Genotype
from ..train.presets import train_config
from .console import plain_console
from .parse import parse

EXAMPLES = """\
pcdarts count PC_DARTS_cifar
pcdarts count PC_DARTS_image --preset imagenet
pcdarts count runs/search-digits/genotype.json --preset digits --layers 8"""

Number = Annotated[int | None, tyro.conf.arg(metavar="INT")]


@dataclass(frozen=True)
class Count:
    """Counts parameters and multiply-adds of a genotype's network."""

    genotype: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GENOTYPE")]
    """A JSON file, the folder of a run, or the name of a published one."""
    preset: str = "cifar10"
    """Settings of the network, as in `pcdarts train`."""
    init_channels: Number = None
    """Of the first cells, not the preset's."""
    layers: Number = None
    """Cells of the network, in place of the preset's."""
    num_classes: Number = None
    """Classes, in place of the preset's."""
    image_size: Number = None
    """In pixels, in place of the preset's."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when it has printed the table.

    Raises:
        UserError: no such genotype or preset, or a number below 1.
    """
    command = parse(Count, args, examples=EXAMPLES)
    genotype = Genotype.load(command.genotype)
    config = train_config(command.preset)
    check_range(command, ("init_channels", "layers", "num_classes", "image_size"), COUNT)
    classes, image = images_of(command.preset, command.image_size)
    C = command.init_channels or config.init_channels
    layers = command.layers or config.layers
    classes = command.num_classes or classes
    # Take seconds to import.
    import torch

    from ..nn.count import count
    from ..nn.derived import DerivedNetwork

    with torch.device("meta"):
        network = DerivedNetwork(
            C,
            classes,
            layers,
            genotype,
            auxiliary=True,
            stem=config.stem,
            in_channels=image[0],
        )
    training = count(network.train(), image)
    network.auxiliary_head = None
    alone = count(network.eval(), image)

    table = Table(
        caption="Multiply-adds are of one image; the published convention adds two for every "
        "element out of a batch-norm and one for every element out of a ReLU. The auxiliary head "
        "works in training only.",
        caption_justify="left",
    )
    table.add_column("")
    for heading in ("parameters", "multiply-adds\n(conv + linear)", "multiply-adds\n(published)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, cost in (("network", alone), ("with auxiliary head", training)):
        numbers = (cost.parameters, cost.multiply_adds, cost.multiply_adds_published)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console = plain_console()
    console.print(f"{command.genotype}: {C} channels, {layers} cells, {classes} classes")
    console.print(f"images of {' x '.join(map(str, image))}")
    console.print(table)
    return 0
