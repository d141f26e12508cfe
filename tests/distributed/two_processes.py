"""What two processes do, started by torchrun: each check raises in the process where it fails."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from pcdarts_fast import SearchNetwork
from pcdarts_fast.data import Augment, Batch, Shard, load
from pcdarts_fast.data.image_set import MemoryImages
from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.fused import run_stem
from pcdarts_fast.nn.stem import cifar_stem
from pcdarts_fast.nn.synchronized import SynchronizedBatchNorm2d, synchronize_batch_norms
from pcdarts_fast.nn.watched import Watched
from pcdarts_fast.ops._registry import INTERPRETED
from pcdarts_fast.run.epoch import mean_of, steps_of_epoch
from pcdarts_fast.run.folder import RunFolder
from pcdarts_fast.run.opened import Run
from pcdarts_fast.run.pace import Pace
from pcdarts_fast.run.processes import Processes, processes
from pcdarts_fast.search.steps import architecture_step, weight_step
from pcdarts_fast.space import PRIMITIVES, PUBLISHED
from pcdarts_fast.testing.run_state import state_of
from pcdarts_fast.train.epoch import epoch_of_training
from pcdarts_fast.train.presets import train_config
from pcdarts_fast.train.state import new_state

LIMIT = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Of the difference to one process, norm over norm."""
SIMULATOR = os.environ.get("PCDARTS_SIMULATOR")


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    error = (got - wanted).norm() / wanted.norm()
    assert error < LIMIT[wanted.dtype], f"off by {error}"


def batch_norm_is_that_of_the_whole_batch(group: Processes) -> None:
    """The shards have different sizes: 5 and 2 images."""
    torch.manual_seed(0)
    x = torch.randn(7, 3, 4, 4, dtype=torch.float64) + 10
    grad = torch.randn_like(x)
    one = nn.BatchNorm2d(3).double()
    nn.init.normal_(one.weight)
    two = copy.deepcopy(one)
    synchronize_batch_norms(two)
    whole, part = x.clone().requires_grad_(), x.split([5, 2])[group.rank].clone().requires_grad_()
    rows = slice(0, 5) if group.first else slice(5, 7)
    one(whole).backward(grad)
    two(part).backward(grad[rows])
    close(two(part), one(whole)[rows])
    close(part.grad, whole.grad[rows])
    close(group.total(two.weight.grad), one.weight.grad)
    close(two.running_var, one.running_var)
    assert two.state_dict().keys() == one.state_dict().keys()
    close(two.eval()(part), one.eval()(whole)[rows])


def steps_are_those_of_the_whole_batch(
    group: Processes,
    backend: str,
    dtype: torch.dtype = torch.float64,
    *,
    unrolled: bool = False,
    memory: str = "recompute",
) -> None:
    """Both steps, three times, with statistics over both processes."""
    torch.manual_seed(1)
    one = SearchNetwork(4, 3, 3, k=2, nodes=2, in_channels=1, backend=backend, memory=memory)
    one = one.to(dtype)
    two = copy.deepcopy(one)
    synchronize_batch_norms(two)
    with two.learning("weights"):
        for_weights = group.averaging(two)
    with two.learning("architecture"):
        for_arch = group.averaging(two)
    images = torch.randn(6, 8, 1, 8, 8, dtype=dtype)
    labels = torch.randint(3, (6, 8))
    batches = list(zip(images, labels, strict=True))
    rows = Shard(group.rank, group.count).rows
    shares = [(x[rows], y[rows]) for x, y in batches]
    for network, own, alone, forwards in (
        (one, batches, Processes(), (None, None)),
        (two, shares, group, (for_weights, for_arch)),
    ):
        optimizer = torch.optim.SGD(network.weight_parameters(), 0.1, momentum=0.9)
        arch_optimizer = torch.optim.Adam(network.arch_parameters(), 0.01, weight_decay=1e-3)
        for train, valid in zip(own[:3], own[3:], strict=True):
            architecture_step(
                network,
                arch_optimizer,
                valid,
                grad_clip=5.0,
                forward=forwards[1],
                unrolled=(optimizer, train, alone) if unrolled else None,
            )
            weight_step(network, optimizer, train, grad_clip=0.5, forward=forwards[0])
    for name, value in one.state_dict().items():
        if value.is_floating_point():
            close(two.state_dict()[name], value)
    group.check_equal("everything", list(two.parameters()))


def cell_is_that_of_the_whole_batch(
    group: Processes, backend: str, *, reduction: bool, dtype: torch.dtype = torch.float32
) -> None:
    """Preprocessing and the mixed operations of one cell, one pass in each direction.

    A reduction cell keeps its convolutions' outputs and follows another one, a normal cell neither.
    """
    torch.manual_seed(2)
    one = SearchCell(
        *(6, 8, 4),
        reduction=reduction,
        reduction_prev=reduction,
        nodes=2,
        k=2,
        primitives=PRIMITIVES,
        sampling="shuffle",
        backend=backend,
        memory="store" if reduction else "recompute",
    ).to(dtype)
    two = copy.deepcopy(one)
    synchronize_batch_norms(two)
    alpha, beta = torch.randn(5, len(PRIMITIVES)).softmax(1), torch.rand(5)
    s0 = torch.randn(6, 6, 8, 8) if reduction else torch.randn(6, 6, 4, 4)
    tensors = [s0, torch.randn(6, 8, 4, 4), alpha, beta]
    tensors = [t.to(dtype) for t in tensors]
    own = slice(3 * group.rank, 3 * group.rank + 3)
    whole = [t.clone().requires_grad_() for t in tensors]
    part = [t.clone().requires_grad_() for t in [t[own] for t in tensors[:2]] + tensors[2:]]
    out = one(*whole)
    grad = torch.randn_like(out)
    out.backward(grad)
    shared = two(*part)
    shared.backward(grad[own])
    close(shared, out[own])
    for mine, all_of_it in zip(part[:2], whole[:2], strict=True):
        close(mine.grad, all_of_it.grad[own])
    summed = zip([*part[2:], *two.parameters()], [*whole[2:], *one.parameters()], strict=True)
    for mine, all_of_it in summed:
        close(group.total(mine.grad), all_of_it.grad)
    # Together: some running means are nothing but rounding.
    close(*(torch.cat([b.flatten() for b in cell.buffers()]) for cell in (two, one)))


def stem_is_that_of_the_whole_batch(group: Processes, backend: str) -> None:
    one = cifar_stem(3, 12)
    two = copy.deepcopy(one)
    synchronize_batch_norms(two)
    images = torch.randn(6, 3, 5, 5)
    own = slice(3 * group.rank, 3 * group.rank + 3)
    out = run_stem(one, Watched([one]), images, backend)
    shared = run_stem(two, Watched([two]), images[own], backend)
    grad = torch.randn_like(out)
    out.backward(grad)
    shared.backward(grad[own])
    close(shared, out[own])
    for mine, all_of_it in zip(two.parameters(), one.parameters(), strict=True):
        close(group.total(mine.grad), all_of_it.grad)


def ghost_statistics_average_to_the_mean(group: Processes) -> None:
    norm = nn.BatchNorm2d(2)
    assert norm.running_mean is not None
    norm.running_mean.fill_(float(group.rank))
    group.average_buffers(norm)
    assert norm.running_mean.tolist() == [0.5, 0.5]


def statistics_stay_those_of_the_process_until_they_are_averaged(group: Processes) -> None:
    one = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    two = group.averaging(copy.deepcopy(one))
    for step in range(2):
        torch.manual_seed(step)
        own = torch.randn(2, 3, 1, 4, 4)[group.rank] + group.rank
        for network in (one, two):
            network(own).sum().backward()
    buffers = zip(two.buffers(), one.buffers(), strict=True)
    assert all(torch.equal(mine, wanted) for mine, wanted in buffers)


def an_epoch_is_that_of_both(group: Processes) -> None:
    """Its means, its one set of running statistics, and that the parameters are the same."""
    norm = nn.BatchNorm2d(2)
    state = state_of(norm, group)
    run = Run(RunFolder(Path()), group, "cpu", False, lambda: False)
    assert norm.running_mean is not None

    def step(_: int, batch: Batch) -> torch.Tensor:
        """Losses of 1 or 3 an image, and one right answer for both processes."""
        return torch.tensor([2.0 + 4 * group.rank, group.rank, 2], dtype=torch.float64)

    batch = torch.zeros(2, 2, 1, 1), torch.zeros(2).long()
    norm.running_mean.fill_(float(group.rank))
    epoch = steps_of_epoch(run, state, Pace(0.0, 1, group.count), [batch], step)
    trained = returned(epoch)
    assert (trained.loss, trained.accuracy) == (2.0, 0.25)
    assert norm.running_mean.tolist() == [0.5, 0.5]

    # The second process has more batches, and is told to stop: both look at all images.
    run = replace(run, stop=lambda: not group.first)
    logits = torch.tensor([[0.0, 0.0], [-9.0, 9.0]])[group.rank].expand(2, 2)
    seen = mean_of(run, state, [batch] * (1 + group.rank), lambda images: logits)
    assert seen is not None and seen[1] == 2 / 6
    close(torch.tensor(seen[0]), torch.tensor((2 * math.log(2) + 4 * 18) / 6))

    with torch.no_grad():
        norm.bias += group.rank
    try:
        returned(steps_of_epoch(run, state, Pace(0.0, 1, group.count), [batch], step))
    except UserError as error:
        assert "parameters are no longer the same" in str(error)
    else:
        raise AssertionError("not found")


def returned(generator: Any) -> Any:
    """What it returns at its end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def an_epoch_of_training_drops_other_paths_in_every_process(group: Processes) -> None:
    config = replace(
        train_config("digits"),
        **{"init_channels": 2, "layers": 1, "batch_size": 20, "sync_batch_norm": True},
    )
    data = load("digits")
    part = data.train.subset(torch.arange(60))
    data = replace(data, train=part, test=part)
    torch.manual_seed(0)
    state = new_state(config, PUBLISHED["DARTS_V1"], data, "cpu", group)
    norms = [norm for norm in state.network.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert norms and all(isinstance(norm, SynchronizedBatchNorm2d) for norm in norms)
    seeds: list[int] = []
    state.network.register_forward_pre_hook(
        lambda network, _: seeds.append(torch.initial_seed()) if network.training else None
    )
    run = Run(RunFolder(Path()), group, "cpu", False, lambda: False)
    assert returned(epoch_of_training(run, config, state, data))["epoch"] == 0
    assert len(group.union([str(seed) for seed in seeds])) == 3 * group.count


def shards_are_disjoint_and_complete(group: Processes) -> None:
    numbers = torch.arange(50.0)[:, None, None, None].expand(-1, 1, 2, 2).clone()
    images = MemoryImages(numbers, torch.zeros(50).long(), (0.0,), (1.0,), Augment())
    shard = Shard(group.rank, group.count)
    for number, (own, _) in enumerate(images.shuffled(8, seed=3, shard=shard)):
        gathered: list[list[int]] = [[]] * group.count
        dist.all_gather_object(gathered, own[:, 0, 0, 0].int().tolist())
        (whole, _), *_ = images.shuffled(8, seed=3, start=number)
        both = [image for share in gathered for image in share]
        assert sorted(both) == sorted(whole[:, 0, 0, 0].int().tolist())
    assert number == 5 and len(both) == len(set(both)) == 8


def what_differs_is_found_everywhere(group: Processes) -> None:
    group.check_equal("numbers", [torch.tensor([1.0, float("nan")])])
    try:
        group.check_equal("weights", [torch.tensor([1.0, 2.0 + 1e-6 * group.rank])])
    except UserError as error:
        assert "weights are no longer the same in all processes" in str(error)
    else:
        raise AssertionError("not found")


def an_error_of_the_first_is_everybodys(group: Processes) -> None:
    def refuse() -> None:
        raise UserError("taken" if group.first else "never called")

    try:
        group.agree_on(refuse)
    except UserError as error:
        assert str(error) == "taken"
    else:
        raise AssertionError("not raised")
    assert group.agree_on(lambda: group.rank) == 0
    assert group.any(group.rank == 1, "cpu") and not group.any(False, "cpu")
    assert group.union(["a", str(group.rank)]) == ["a", "0", "1"]


def main() -> None:
    with processes("cpu") as group:
        assert group.count == 2
        with processes("cpu") as again:
            assert again == group
        assert dist.is_initialized()
        if SIMULATOR:
            torch.ops.load_library(SIMULATOR)
            steps_are_those_of_the_whole_batch(group, "cuda", torch.float32)
        if SIMULATOR or INTERPRETED:
            backend = "cuda" if SIMULATOR else "triton"
            for reduction in (False, True):
                cell_is_that_of_the_whole_batch(group, backend, reduction=reduction)
            stem_is_that_of_the_whole_batch(group, backend)
            return
        cell_is_that_of_the_whole_batch(group, "reference", reduction=True, dtype=torch.float64)
        cell_is_that_of_the_whole_batch(group, "cpu", reduction=True, dtype=torch.float64)
        cell_is_that_of_the_whole_batch(group, "cpu", reduction=False)
        stem_is_that_of_the_whole_batch(group, "cpu")
        batch_norm_is_that_of_the_whole_batch(group)
        steps_are_those_of_the_whole_batch(group, "reference")
        steps_are_those_of_the_whole_batch(group, "reference", unrolled=True)
        steps_are_those_of_the_whole_batch(group, "cpu")
        steps_are_those_of_the_whole_batch(group, "cpu", memory="store")
        steps_are_those_of_the_whole_batch(group, "cpu", unrolled=True)
        steps_are_those_of_the_whole_batch(group, "cpu", torch.float32)
        ghost_statistics_average_to_the_mean(group)
        statistics_stay_those_of_the_process_until_they_are_averaged(group)
        an_epoch_is_that_of_both(group)
        an_epoch_of_training_drops_other_paths_in_every_process(group)
        shards_are_disjoint_and_complete(group)
        what_differs_is_found_everywhere(group)
        an_error_of_the_first_is_everybodys(group)


if __name__ == "__main__":
    main()
