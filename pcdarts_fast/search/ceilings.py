"""What a genotype may hold and cost: `--max-skips`, `--max-parameters`, `--max-multiply-adds`."""

from __future__ import annotations

from itertools import product

import torch

from ..data import Dataset
from ..errors import UserError
from ..nn.count import Cost, count
from ..nn.derived import DerivedNetwork
from ..nn.operation_costs import operation_costs
from ..run.config import SearchConfig
from ..run.ranges import option
from ..space import CELL_INPUTS, CELLS, Ceilings, Genotype, cell_edges, derive


def ceilings_of(config: SearchConfig, data: Dataset) -> Ceilings | None:
    """The ceilings that `config` sets; None: it sets none.

    Raises:
        UserError: no genotype keeps to them.
    """
    given = {name: getattr(config, name) for name in ("max_skips", *COUNTED)}
    given = {name: limit for name, limit in given.items() if limit is not None}
    if not given:
        return None
    places = list(product(CELLS, config.primitives, (True, False)))
    limits: list[int] = []
    amounts: dict[tuple[str, str, bool], list[int]] = {place: [] for place in places}
    if config.max_skips is not None:
        limits.append(config.max_skips)
        for place in places:
            amounts[place].append(place[:2] == ("normal", "skip_connect"))
    base = ""
    if set(given) & set(COUNTED):
        empty = (("none", 0), ("none", 1)) * config.nodes
        concat = tuple(range(CELL_INPUTS, CELL_INPUTS + config.nodes))
        network = _derived(config, data, Genotype(empty, concat, empty, concat))
        least = count(network, _image(data))
        costs = operation_costs(network, _image(data), config.primitives)
        for name, attribute in COUNTED.items():
            if name in given:
                limits.append(given[name] - getattr(least, attribute))
                for place in places:
                    amounts[place].append(getattr(costs[place], attribute))
        base = (
            f"; a network of {config.derived_init_channels} channels and {config.derived_layers} "
            f"cells without operations has {describe(least)}"
        )
    ceilings = Ceilings(tuple(limits), {place: tuple(of) for place, of in amounts.items()})
    evenly = [[1.0] * len(config.primitives)] * len(cell_edges(config.nodes))
    try:
        derive(dict.fromkeys(CELLS, evenly), config.primitives, config.nodes, ceilings)
    except UserError as error:
        options = " ".join(f"{option(name)} {limit}" for name, limit in given.items())
        raise UserError(f"{options}: {error}{base}") from None
    return ceilings


COUNTED = {"max_parameters": "parameters", "max_multiply_adds": "multiply_adds_published"}
"""Setting -> what of `Cost` it limits."""


def counts(config: SearchConfig) -> bool:
    """Whether a ceiling is about the derived network."""
    return any(getattr(config, name) is not None for name in COUNTED)


def derived_cost(config: SearchConfig, data: Dataset, genotype: Genotype) -> Cost:
    """Of the network that the ceilings are about, without its auxiliary head."""
    return count(_derived(config, data, genotype), _image(data))


def describe(cost: Cost) -> str:
    """Parameters and multiply-adds in words."""
    return f"{cost.parameters:,} parameters and {cost.multiply_adds_published:,} multiply-adds"


def _derived(config: SearchConfig, data: Dataset, genotype: Genotype) -> DerivedNetwork:
    with torch.device("meta"):
        network = DerivedNetwork(
            config.derived_init_channels,
            data.num_classes,
            config.derived_layers,
            genotype,
            stem=config.stem,
            in_channels=data.in_channels,
        )
    return network.eval()


def _image(data: Dataset) -> tuple[int, int, int]:
    return data.in_channels, data.image_size, data.image_size
