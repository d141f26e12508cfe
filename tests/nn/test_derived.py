"""The derived network: the published counts and parameter names, drop path, any image size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.count import Cost, count
from pcdarts_fast.nn.derived import DerivedCell, DerivedNetwork, TwoByTwoPool, drop_path
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.space import PUBLISHED, Genotype


def network(name: str = "PC_DARTS_cifar", C: int = 4, layers: int = 3, **kw: Any) -> DerivedNetwork:
    torch.manual_seed(0)
    return DerivedNetwork(C, 10, layers, PUBLISHED[name], **kw)


# Measured on the published code: parameters without and with the auxiliary head, multiply-adds of
# convolutions and linear layers, the same with batch-norm twice and ReLU once.
PUBLISHED_COUNTS = {
    "cifar": (3_634_678, 4_111_104, 556_670_592, 575_526_528),
    "imagenet": (5_342_464, 6_603_240, 581_627_328, 597_056_448),
}


@pytest.mark.parametrize("stem", PUBLISHED_COUNTS)
@pytest.mark.parametrize("auxiliary", [False, True])
def test_counts_equal_the_published_networks(stem: str, auxiliary: bool) -> None:
    with torch.device("meta"):
        if stem == "cifar":
            net = DerivedNetwork(36, 10, 20, PUBLISHED["PC_DARTS_cifar"], auxiliary=auxiliary)
            image = (3, 32, 32)
        else:
            genotype = PUBLISHED["PC_DARTS_image"]
            net = DerivedNetwork(48, 1000, 14, genotype, auxiliary=auxiliary, stem="imagenet")
            image = (3, 224, 224)
    without, with_head, products, published = PUBLISHED_COUNTS[stem]
    wanted = Cost(with_head if auxiliary else without, products, published)
    assert count(net.eval(), image) == wanted


def test_count_in_training_adds_the_auxiliary_head_and_touches_nothing() -> None:
    net = network(auxiliary=True).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    training = count(net, (3, 32, 32))
    head = net.auxiliary_head
    assert head is not None
    # 8x8 maps: pointwise to 128 on 2x2, 2x2 convolution to 768 on 1x1, linear to 10 classes
    C = head.features[2].in_channels
    assert training.multiply_adds - count(net.eval(), (3, 32, 32)).multiply_adds == (
        4 * C * 128 + 4 * 128 * 768 + 768 * 10
    )
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_count_of_one_convolution_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
    parameters = 6 * 2 * 9 + 6 + 12
    products = 5 * 7 * 6 * 2 * 9
    assert count(net, (4, 5, 7)) == Cost(parameters, products, products + 3 * 5 * 7 * 6)


def test_count_of_a_super_net_is_the_same_after_it_has_run() -> None:
    net = SearchNetwork(8, 3, 2, nodes=1)
    fresh = count(net, (3, 8, 8))
    net(torch.randn(2, 3, 8, 8))
    assert count(net, (3, 8, 8)) == fresh
    assert fresh.multiply_adds > 100_000


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_parameter_names_are_the_published_ones(stem: str) -> None:
    net = network(auxiliary=True, stem=stem)
    names = set(net.state_dict())
    stems = {
        "cifar": {"stem.0.weight", "stem.1.weight"},
        "imagenet": {"stem0.0.weight", "stem0.3.weight", "stem1.1.weight", "stem1.2.weight"},
    }
    first = {"cifar": "op.1", "imagenet": "conv_1"}[stem]
    last = {"cifar": "auxiliary_head.features.6.running_mean", "imagenet": None}[stem]
    assert names >= stems[stem] | {
        f"cells.0.preprocess0.{first}.weight",
        "cells.0.preprocess1.op.1.weight",
        "cells.0.preprocess1.op.2.bias",
        "auxiliary_head.features.2.weight",
        "auxiliary_head.features.3.weight",
        "auxiliary_head.features.5.weight",
        "auxiliary_head.classifier.weight",
        "classifier.weight",
        "classifier.bias",
    }
    assert (last in names) == (stem == "cifar")
    roots = {name.split(".")[0] for name in names}
    assert roots == {name.split(".")[0] for name in stems[stem]} | {
        "cells",
        "auxiliary_head",
        "classifier",
    }


def test_operations_of_a_cell_are_numbered_in_the_order_of_the_genotype() -> None:
    cell = network(layers=6).cells[0]
    # sep_conv_3x3, skip_connect, sep_conv_3x3, dil_conv_3x3, sep_conv_5x5, sep_conv_3x3, avg, dil
    assert [sum(p.numel() > 0 for p in op.parameters()) for op in cell._ops] == [
        *(8, 0, 8, 4, 8, 8, 0, 4)
    ]
    assert cell._ops[4].op[1].weight.shape == (4, 1, 5, 5)


def test_pools_have_no_batch_norm_and_a_reducing_skip_has_an_affine_one() -> None:
    genotype = PUBLISHED["DARTS_V2"]
    reduction = network("DARTS_V2", layers=6).cells[2]
    for (primitive, source), op in zip(genotype.reduce, reduction._ops, strict=True):
        if "pool" in primitive:
            assert not list(op.parameters())
            assert op.stride == (2 if source < 2 else 1)
    reduction = network("PC_DARTS_image", layers=6).cells[2]
    (skip,) = [
        op
        for (primitive, _), op in zip(
            PUBLISHED["PC_DARTS_image"].reduce, reduction._ops, strict=True
        )
        if primitive == "skip_connect"
    ]
    assert skip.bn.affine and skip.conv_1.stride == (2, 2)


def test_cell_is_the_sum_of_its_operations() -> None:
    net = network(layers=6).eval()
    cell = net.cells[0]
    assert isinstance(cell, DerivedCell)
    x = torch.randn(2, 12, 8, 8)
    a, b = cell.preprocess0(x), cell.preprocess1(x)
    op = cell._ops
    # PC_DARTS_cifar: every node of the normal cell reads the two inputs.
    nodes = [op[0](b) + op[1](a), op[2](a) + op[3](b), op[4](a) + op[5](b), op[6](a) + op[7](b)]
    torch.testing.assert_close(cell(x, x, 0.0), torch.cat(nodes, 1))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_shapes(name: str, stem: str) -> None:
    net = network(name, layers=6, auxiliary=True, stem=stem)
    x = torch.randn(2, 3, 32, 32)
    logits, logits_aux = net(x)
    assert logits.shape == (2, 10)
    assert logits_aux is not None and logits_aux.shape == (2, 10)
    assert net.eval()(x)[1] is None
    assert network(name, layers=6, stem=stem)(x)[1] is None


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 7), (28, 28), (33, 65), (50, 31)])
def test_any_image_size_trains(stem: str, size: tuple[int, int]) -> None:
    net = network("PC_DARTS_image", layers=3, auxiliary=True, stem=stem, in_channels=1)
    logits, logits_aux = net(torch.randn(2, 1, *size))
    (logits.square().sum() + logits_aux.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("side", "window", "stride"), [(8, 5, 3), (7, 5, 2)])
def test_auxiliary_pool_is_the_published_one_at_the_published_sizes(
    side: int, window: int, stride: int
) -> None:
    x = torch.randn(2, 3, side, side)
    published = nn.AvgPool2d(window, stride, padding=0, count_include_pad=False)
    torch.testing.assert_close(TwoByTwoPool()(x), published(x), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 2), (3, 5), (14, 14)])
def test_auxiliary_pool_reads_every_pixel_once_or_more(size: tuple[int, int]) -> None:
    x = torch.ones(1, 1, *size, requires_grad=True)
    pooled = TwoByTwoPool()(x)
    assert pooled.shape == (1, 1, 2, 2)
    pooled.sum().backward()
    assert x.grad is not None and (x.grad > 0).all()


def test_drop_path_drops_whole_samples_at_the_stated_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 3, 1)
    dropped = drop_path(x, 0.3)
    per_sample = dropped.flatten(1)
    assert ((per_sample == 0).all(1) | (per_sample == torch.tensor(1 / 0.7)).all(1)).all()
    # Five standard deviations of the mean of 20,000 Bernoulli variables are 0.0162.
    assert abs((per_sample[:, 0] == 0).float().mean() - 0.3) < 0.0162
    assert abs(per_sample.mean() - 1) < 0.0162 / 0.7


def test_drop_path_acts_in_training_only_and_not_at_zero() -> None:
    net = network(layers=3)
    x = torch.randn(4, 3, 8, 8)
    plain = net(x)[0]
    assert torch.equal(net(x)[0], plain)
    net.drop_path_prob = 0.5
    assert not torch.equal(net(x)[0], plain)
    net.eval()
    with_probability = net(x)[0]
    net.drop_path_prob = 0.0
    assert torch.equal(net(x)[0], with_probability)


def test_drop_path_spares_the_identity() -> None:
    cell = (("skip_connect", 0), ("skip_connect", 1))
    net = DerivedNetwork(2, 10, 3, Genotype(cell, (2,), cell, (2,)))
    x = torch.randn(4, 3, 8, 8)
    first = net.stem(x)
    assert torch.equal(net.cells[0](first, first, 0.9), net.cells[0](first, first, 0.0))


def test_eval_is_deterministic_whatever_the_number_of_threads() -> None:
    net = network(layers=6).eval()
    x = torch.randn(4, 3, 16, 16)
    threads = torch.get_num_threads()
    try:
        outputs = []
        for number in (1, 2):
            torch.set_num_threads(number)
            outputs.append(net(x)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"layers": 0}, "layers"),
        ({"C": 0}, "wanted >= 1"),
        ({"C": 1, "stem": "imagenet"}, "C >= 2 for the imagenet stem"),
        ({"stem": "mnist"}, "stem: got 'mnist', wanted one of cifar, imagenet"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        network(**arguments)


def test_a_reduction_cell_cannot_concatenate_its_inputs() -> None:
    cell = (("skip_connect", 0), ("skip_connect", 1))
    x = torch.randn(2, 3, 8, 8)
    assert DerivedNetwork(2, 10, 3, Genotype(cell, (0, 2), cell, (2,)))(x)[0].shape == (2, 10)
    with pytest.raises(UserError, match="reduce_concat"):
        DerivedNetwork(2, 10, 3, Genotype(cell, (2,), cell, (1, 2)))


def test_unknown_primitive_is_named() -> None:
    cell = (("sep_conv_3x4", 0), ("skip_connect", 1))
    with pytest.raises(UserError, match=r"sep_conv_3x4.*sep_conv_3x3"):
        DerivedNetwork(4, 10, 3, Genotype(cell, (2,), cell, (2,)))
