"""The processes that `torchrun` starts for one run: who they are, and what they agree on.

A run of one process takes the same path: every function here then gives back what it was given.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError
from .launcher import restarts, started_by_torchrun

_GROUPS = itertools.count()
P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others; the first one may have a large folder to scan."""


@dataclass(frozen=True)
class Processes:
    """This process among all of its run."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    def check_batch(self, batch_size: int) -> None:
        """A batch is dealt out to the processes evenly.

        Raises:
            UserError: it cannot be, or would leave a process a single image.
        """
        if self.count > 1 and (batch_size % self.count or batch_size < 2 * self.count):
            raise UserError(
                f"--batch-size is {batch_size}, for all {self.count} processes together; "
                f"wanted a multiple of {self.count} and two images or more for each"
            )

    def agree_on(self, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `make(*args)` returns in the first process, where alone it is called.

        Raises:
            UserError: the one that `make` raised in the first process, in every process.
        """
        if self.count == 1:
            return make(*args, **kwargs)
        outcome: list[Any] = [None]
        if self.first:
            try:
                outcome = [make(*args, **kwargs)]
            except UserError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        return outcome[0]  # type: ignore[no-any-return]

    def any(self, flag: bool, device: str) -> bool:
        """Whether `flag` is true in some process."""
        if self.count == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=device)))

    def total(self, values: Tensor) -> Tensor:
        """The sum of every process's `values`, in the same bits everywhere."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Every process's `values` [N], as rows [count, N]."""
        rows = values.new_zeros(self.count, len(values))
        rows[self.rank] = values
        return self.total(rows)

    def own_row(self, rows: Tensor) -> Tensor:
        """The inverse of `gather`; of rows from another number of processes an equal share."""
        return rows[self.rank] if len(rows) == self.count else rows.sum(0) / self.count

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean of every process's `tensors`, all of one floating type."""
        if self.count == 1:
            return list(tensors)
        flat = self.total(torch.cat([tensor.detach().flatten() for tensor in tensors]))
        pieces = (flat / self.count).split([tensor.numel() for tensor in tensors])
        return [piece.view_as(like) for piece, like in zip(pieces, tensors, strict=True)]

    def union(self, items: Sequence[str]) -> list[str]:
        """Every process's `items`, each once."""
        if self.count == 1:
            return list(items)
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, list(items))
        return list(dict.fromkeys(item for own in gathered for item in own))

    def averaging(self, network: nn.Module) -> nn.Module:
        """`network` with a backward pass that averages gradients over processes.

        They are those of the parameters that require gradients now.
        """
        if self.count == 1:
            return network
        with warnings.catch_warnings():
            # The new name of broadcast_buffers is not in every torch that is supported.
            warnings.simplefilter("ignore", FutureWarning)
            # In a static graph parameters may lack a gradient: a genotype need not use all states.
            return DistributedDataParallel(network, broadcast_buffers=False, static_graph=True)

    @torch.no_grad()
    def average_buffers(self, network: nn.Module) -> None:
        """Running statistics of all processes, each of which has seen other images."""
        buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        for buffer, mean in zip(buffers, self.average(buffers), strict=True):
            buffer.copy_(mean)

    def check_equal(self, what: str, tensors: Sequence[Tensor]) -> None:
        """Compares `tensors` with those of the first process, bit by bit.

        Raises:
            UserError: they differ in some process; raised in every process.
        """
        if self.count == 1:
            return
        own = torch.cat([tensor.detach().flatten() for tensor in tensors])
        first = own.clone()
        dist.broadcast(first, 0)
        same = torch.equal(own.view(torch.uint8), first.view(torch.uint8))  # a NaN is itself
        if self.any(not same, str(own.device)):
            raise UserError(
                f"{what} are no longer the same in all processes; the last checkpoint is intact: "
                "go on from it with --resume, and use the same software on every machine"
            )


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Joins the processes that `torchrun` started; alone where there are no others.

    On "cuda" each process takes the GPU of its number on its machine, and they talk by NCCL;
    else by Gloo. A group that exists already is used as it is.

    Raises:
        UserError: there are fewer GPUs than processes, or another process is gone.
    """
    if not started_by_torchrun():
        yield Processes()
        return
    if device == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(
                f"process {local} of this machine has no GPU, torch sees "
                f"{torch.cuda.device_count()}; start at most that many with --nproc-per-node"
            )
        torch.cuda.set_device(local)
    own = not dist.is_initialized()
    try:
        if own:
            _join("nccl" if device == "cuda" else "gloo")
        yield Processes(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise UserError(
            "another process of this run is gone; the last checkpoint is intact: "
            "go on from it with --resume, or let torchrun do so with --max-restarts"
        ) from None
    finally:
        if own and dist.is_initialized():
            dist.destroy_process_group()


def _join(backend: str) -> None:
    store, rank, count = next(rendezvous("env://"))
    # The launcher's store still has the addresses of this process's groups before, one a seed, and
    # after a restart those of the processes that died.
    fresh = PrefixStore(f"restart {restarts()} group {next(_GROUPS)}", store)
    dist.init_process_group(backend, store=fresh, rank=rank, world_size=count, timeout=PATIENCE)
    dist.barrier()  # who finds a fault at once does not leave before all are connected


def _lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
