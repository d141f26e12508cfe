"""The table of cases and tolerances that tests and benchmarks share. Nothing else imports this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .nn.cell import SearchCell
from .ops.channels import Sampling, Table, channel_tables
from .space import PRIMITIVES

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One row: `make(dtype=..., device=..., requires_grad=...)` gives the arguments of a call."""

    id: str
    make: Callable[..., Arguments]
    bench: bool = False  # also a row in benchmarks/


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """rtol and atol of a kernel against its reference: the one place where they are set."""
    return {
        torch.float64: {"rtol": 1e-10, "atol": 1e-10},
        torch.float32: {"rtol": 1e-5, "atol": 1e-5},
        torch.bfloat16: {"rtol": 1.6e-2, "atol": 1e-3},
        torch.float16: {"rtol": 2e-3, "atol": 1e-3},
    }[dtype]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over norm of what is wanted, in float64."""
    got, wanted = got.detach().double(), wanted.detach().double()
    return float((got - wanted).norm() / wanted.norm().clamp_min(torch.finfo(torch.float32).tiny))


def leaves(arguments: Arguments) -> list[Tensor]:
    """The tensors among the arguments that want a gradient, lists flattened, in order."""
    found: list[Tensor] = []
    for value in arguments.values():
        items = value if isinstance(value, (list, tuple)) else [value]
        found += [item for item in items if isinstance(item, Tensor) and item.requires_grad]
    return found


def saved_bytes(forward: Callable[[], Tensor], exclude: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps between forward and backward, every storage counted once.

    Storages of `exclude` (parameters, inputs that live on anyway) do not count.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in exclude}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(forward())
    return sum(sizes.values())


class Cost(TorchDispatchMode):
    """Inside, counts PyTorch's operators and the bytes of the tensors that they read and write.

    Views and allocations are free. Every operator is taken to be one launch and to move each of its
    tensors once, which flatters the ones that are several launches, such as a convolution's
    backward.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.namespace != "aten" or "empty" in func.__name__:
            return result
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        self.launches += bool(tensors)
        self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


MOST_OF_NAIVE = {"launches": 1 / 20, "bytes": 1 / 5}
"""What a cell of a GPU engine may cost, forward and backward together."""


def super_net_cell(C_in: int, C: int, *, reduction: bool, backend: str) -> SearchCell:
    """A cell of the CIFAR-10 preset's super-net, behind two states of `C_in` channels."""
    return SearchCell(
        *(C_in, C_in, C),
        reduction=reduction,
        reduction_prev=False,
        nodes=4,
        k=4,
        primitives=PRIMITIVES,
        sampling="shuffle",
        backend=backend,
        memory="recompute",
    )


def cell_costs(
    backend: str,
    C: int,
    size: int,
    reduction: bool,
    kernels: Callable[[], tuple[int, int]] = lambda: (0, 0),
) -> dict[str, dict[str, int]]:
    """Launches and bytes of a cell with its preprocessing, forward and backward, for one image.

    PyTorch's operators count as in `Cost`; `kernels` gives what the backend's own have added up to
    so far, (launches, bytes).
    """
    torch.manual_seed(0)
    cell = super_net_cell(C, C, reduction=reduction, backend=backend)
    x = [torch.randn(1, C, size, size).requires_grad_() for _ in range(2)]
    alpha, beta = torch.rand(14, 8).requires_grad_(), torch.rand(14).requires_grad_()
    grad = torch.ones(1, 4 * C, size // (1 + reduction), size // (1 + reduction))
    out: list[Tensor] = []
    found = {}
    for way, call in (
        ("forward", lambda: out.append(cell(*x, alpha, beta))),
        ("backward", lambda: out[0].backward(grad)),
    ):
        launches, moved = kernels()
        with Cost() as cost:
            call()
        after = kernels()
        found[way] = {
            "launches": cost.launches + after[0] - launches,
            "bytes": cost.bytes + after[1] - moved,
        }
    return found


def naive_partial_mix(
    outputs: Sequence[Tensor],
    weights: Tensor,
    x: Tensor,
    *,
    k: int,
    stride: int = 1,
    tables: tuple[Table, Table] | None = None,
) -> Tensor:
    """What everybody writes in plain torch: weigh, sum, pool, cat, reorder; a copy at each."""
    B, C, H, W = x.shape
    source, destination = tables or channel_tables(C, k)
    bypass = x[:, list(source[C // k :])]
    if stride == 2 and k > 1:  # max_pool2d refuses a tensor without channels
        bypass = F.max_pool2d(bypass, 2, 2)
    mixed = x.new_zeros(B, C // k, H // stride, W // stride)
    for i, (weight, output) in enumerate(zip(weights, outputs, strict=True)):
        mixed = weight * output if i == 0 else mixed + weight * output
    cat = mixed if k == 1 else torch.cat([mixed, bypass], 1)
    if tables is None:  # the shuffle as it is usually written
        return cat.view(B, k, C // k, *cat.shape[2:]).transpose(1, 2).reshape(cat.shape)
    return cat[:, [destination.index(c) for c in range(C)]]


def _partial_mix(
    B: int,
    C: int,
    k: int,
    H: int,
    W: int,
    *,
    stride: int = 1,
    P: int = 7,
    sampling: Sampling = "shuffle",
    bench: bool = False,
) -> Case:
    def make(
        dtype: torch.dtype = torch.float32, device: str = "cpu", requires_grad: bool = False
    ) -> Arguments:
        generator = torch.Generator(device).manual_seed(0)

        def randn(*shape: int) -> Tensor:
            tensor = torch.randn(*shape, generator=generator, device=device, dtype=dtype)
            return tensor.requires_grad_(requires_grad)

        order = torch.randperm(C, generator=torch.Generator().manual_seed(1)).tolist()
        permutation = order if sampling == "random" else None
        # coarse values: a pool window then often holds its maximum twice
        x = (randn(B, C, H, W).detach() * 2).round().div(2).requires_grad_(requires_grad)
        return {
            "outputs": [randn(B, C // k, H // stride, W // stride) for _ in range(P)],
            "weights": randn(P).detach().softmax(0).requires_grad_(requires_grad),
            "x": x,
            "k": k,
            "stride": stride,
            "tables": channel_tables(C, k, sampling, permutation),
        }

    name = f"{B}x{C}x{H}x{W}-k{k}-s{stride}-p{P}" + (
        "" if sampling == "shuffle" else f"-{sampling}"
    )
    return Case(name, make, bench)


def _mixed_op(B: int, C: int, H: int, W: int, *, stride: int = 1, bench: bool = False) -> Case:
    """An edge of the super-net: `FusedPartialMixedOp(C, stride)(x, weights)`."""

    def make(
        dtype: torch.dtype = torch.float32, device: str = "cpu", requires_grad: bool = False
    ) -> Arguments:
        generator = torch.Generator(device).manual_seed(0)
        x = torch.randn(B, C, H, W, generator=generator, device=device, dtype=dtype)
        weights = torch.linspace(-1, 1, 8, device=device, dtype=dtype).softmax(0)
        return {
            "C": C,
            "stride": stride,
            "x": x.requires_grad_(requires_grad),
            "weights": weights.requires_grad_(requires_grad),
        }

    return Case(f"{B}x{C}x{H}x{W}-s{stride}", make, bench)


CASES: dict[str, list[Case]] = {
    "mixed_op": [
        _mixed_op(3, 8, 6, 10),
        _mixed_op(2, 12, 8, 4, stride=2),
        _mixed_op(64, 16, 32, 32, bench=True),
        _mixed_op(64, 32, 16, 16, bench=True),
        _mixed_op(64, 64, 8, 8, bench=True),
        _mixed_op(64, 32, 32, 32, stride=2, bench=True),
        _mixed_op(64, 16, 28, 28, bench=True),
    ],
    "partial_mix": [
        _partial_mix(1, 1, 1, 1, 1, P=1),
        _partial_mix(1, 4, 1, 3, 5, P=2),
        _partial_mix(1, 4, 1, 2, 6, P=2, stride=2),
        _partial_mix(1, 8, 4, 7, 5),
        _partial_mix(3, 6, 2, 9, 11, P=3),
        _partial_mix(2, 16, 4, 16, 16),
        _partial_mix(2, 8, 8, 6, 10, stride=2),
        _partial_mix(3, 16, 4, 34, 38, stride=2, P=8),
        _partial_mix(2, 8, 4, 8, 8, P=0),
        _partial_mix(0, 8, 4, 8, 8, P=2),
        _partial_mix(2, 12, 3, 8, 8, P=4, sampling="shift"),
        _partial_mix(2, 12, 4, 8, 6, P=4, sampling="random"),
        _partial_mix(2, 12, 4, 8, 6, P=4, stride=2, sampling="random"),
        _partial_mix(64, 16, 4, 32, 32, bench=True),
        _partial_mix(64, 64, 4, 8, 8, bench=True),
        _partial_mix(64, 16, 4, 32, 32, stride=2, bench=True),
    ],
}


def write_photos(
    folder: Path, classes: int, images: int, *, size: tuple[int, int] = (500, 375), seed: int = 0
) -> None:
    """Writes JPEG files folder/CLASS/NUMBER.jpg, `images` of each class.

    Width and height are around `size`. Soft colours, shapes and grain make them as long as
    photographs of that size (about 100 KB at 500 x 375) and as slow to decode.
    """
    rng = np.random.default_rng(seed)
    for label in range(classes):
        (folder / f"class{label:04}").mkdir(parents=True)
        for number in range(images):
            width, height = (int(side * rng.uniform(0.8, 1.2)) for side in size)
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            draw = ImageDraw.Draw(image)
            for _ in range(12):
                x, y, a, b = rng.integers(0, (width, height, width // 3, height // 3))
                fill = tuple(int(value) for value in rng.integers(0, 256, 3))
                draw.ellipse((x, y, x + a, y + b), fill=fill)
            grain = rng.normal(0, 14, (height, width, 1))
            pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
            path = folder / f"class{label:04}" / f"{number}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
