"""What two processes do, started by torchrun: each check raises in the process where it fails."""

from __future__ import annotations

import copy
import os

import torch
import torch.distributed as dist
from torch import nn

from pcdarts_fast import SearchNetwork
from pcdarts_fast.data import Augment, Shard
from pcdarts_fast.data.image_set import MemoryImages
from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.fused import run_stem
from pcdarts_fast.nn.stem import cifar_stem
from pcdarts_fast.nn.synchronized import synchronize_batch_norms
from pcdarts_fast.nn.watched import Watched
from pcdarts_fast.ops._registry import INTERPRETED
from pcdarts_fast.run.processes import Processes, processes
from pcdarts_fast.search.steps import architecture_step, weight_step
from pcdarts_fast.space import PRIMITIVES

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
        shards_are_disjoint_and_complete(group)
        what_differs_is_found_everywhere(group)
        an_error_of_the_first_is_everybodys(group)


if __name__ == "__main__":
    main()
