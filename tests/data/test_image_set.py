"""Splits and batches: disjoint, seeded, complete."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdarts_fast.data import Augment, Shard, derive_seed, share, split, steps
from pcdarts_fast.data.image_set import MemoryImages
from pcdarts_fast.errors import UserError

PLAIN = Augment()


def numbered_images(labels: list[int], augment: Augment = PLAIN) -> MemoryImages:
    """Image n holds the number n, so that a batch tells which images it has."""
    numbers = torch.arange(len(labels), dtype=torch.float32)
    images = numbers[:, None, None, None].expand(-1, 1, 2, 2).clone()
    return MemoryImages(images, torch.tensor(labels), (0.0,), (1.0,), augment)


def numbers_of(batches) -> list[list[int]]:
    return [images[:, 0, 0, 0].int().tolist() for images, _ in batches]


class_sizes = st.lists(st.integers(4, 30), min_size=1, max_size=6)


@given(class_sizes, st.integers(0, 2**32))
def test_halves_are_disjoint_complete_and_hold_half_of_every_class(sizes, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    first, second = split(numbered_images(labels), (0.5, 0.5), seed=seed)
    seen = [set(part.images[:, 0, 0, 0].int().tolist()) for part in (first, second)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(range(len(labels)))
    for label, size in enumerate(sizes):
        assert abs((first.labels == label).sum() - size / 2) <= 0.5


def test_paper_fractions_take_a_tenth_and_a_fortieth_of_every_class():
    parts = split(numbered_images([0] * 400 + [1] * 1200), (0.10, 0.025), seed=0)
    assert [part.labels.bincount().tolist() for part in parts] == [[40, 120], [10, 30]]


def test_split_depends_on_the_seed_alone():
    images = numbered_images([0, 1] * 50)
    once, again, other = (split(images, (0.5, 0.5), seed=seed)[0].images for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_split_of_a_class_that_is_too_small_is_refused():
    with pytest.raises(UserError, match=r"class 1 has too few images \(3\) .* 0.1 and 0.025"):
        split(numbered_images([0] * 100 + [1] * 3), (0.1, 0.025), seed=0)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**63 - 1))
def test_shuffled_pass_has_every_image_once_but_no_single_one_left_over(count, size, seed):
    batches = numbers_of(numbered_images([0] * count).shuffled(size, seed=seed))
    assert len(batches) == steps(count, size)
    seen = [number for batch in batches for number in batch]
    dropped = count % size == 1 and size > 1
    assert len(seen) == len(set(seen)) == count - dropped
    assert all(len(batch) == size for batch in batches[:-1])


def test_order_and_augmentation_are_a_function_of_the_seed():
    images = numbered_images([0] * 40, Augment(crop_padding=1, flip=True, cutout=1))
    torch.manual_seed(0)
    once = [batch for batch, _ in images.shuffled(8, seed=derive_seed(0, "weights", 5))]
    torch.manual_seed(1)
    again = [batch for batch, _ in images.shuffled(8, seed=derive_seed(0, "weights", 5))]
    other = [batch for batch, _ in images.shuffled(8, seed=derive_seed(0, "weights", 6))]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(once, other, strict=True))


def test_batches_leave_the_process_generator_alone():
    state = torch.get_rng_state()
    images = numbered_images([0, 1] * 10, Augment(crop_padding=1, flip=True, cutout=1))
    list(split(images, (0.5, 0.5), seed=0)[0].shuffled(4, seed=0))
    assert torch.equal(torch.get_rng_state(), state)


def test_ordered_pass_has_every_image_in_order_and_plain():
    images = numbered_images([0] * 9, Augment(crop_padding=1, flip=True, cutout=2))
    assert numbers_of(images.ordered(4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_purposes_have_seeds_of_their_own_that_never_change():
    seeds = {derive_seed(0, purpose, epoch) for purpose in "ab" for epoch in range(100)}
    assert len(seeds) == 200
    assert derive_seed(0, "weights", 0) == 7838846415617969245


def test_one_process_shares_without_a_copy():
    images = numbered_images([0, 0, 1, 1])
    assert share(images, Shard()) is images
    assert share(images, Shard(1, 2)).labels.tolist() == [0, 1]


@given(st.integers(4, 60), st.integers(1, 4), st.integers(2, 4), st.integers(0, 2**32))
def test_shards_of_a_batch_are_even_disjoint_and_what_one_process_would_see(
    count, share, processes, seed
):
    images = numbered_images([0] * count, Augment(crop_padding=1, flip=True))
    size = share * processes
    whole = [x for x, _ in images.shuffled(size, seed=seed)]
    dealt = [
        [x for x, _ in images.shuffled(size, seed=seed, shard=Shard(n, processes))]
        for n in range(processes)
    ]
    assert {len(own) for own in dealt} == {steps(count, size, processes)}
    for batch, *shares in zip(whole, *dealt, strict=False):
        assert len({len(x) for x in shares}) == 1
        if len(batch) == size:
            assert all(torch.equal(batch[n::processes], x) for n, x in enumerate(shares))


@given(st.integers(4, 40), st.integers(1, 9), st.integers(0, 5))
def test_pass_that_begins_in_the_middle_is_the_rest_of_the_whole_one(count, size, start):
    images = numbered_images([0] * count, Augment(crop_padding=1, flip=True, cutout=1))
    whole = list(images.shuffled(size, seed=7))
    rest = list(images.shuffled(size, seed=7, start=start))
    assert len(rest) == max(0, len(whole) - start)
    for (x, y), (other_x, other_y) in zip(whole[start:], rest, strict=True):
        assert torch.equal(x, other_x) and torch.equal(y, other_y)


def test_cutout_leaves_the_mean():
    images = replace(numbered_images([0] * 9, Augment(cutout=1)), mean=(0.5,))
    ((batch, _),) = images.shuffled(9, seed=0)
    assert ((batch == 0).sum((1, 2, 3)) == 1).all()


def test_every_batch_is_augmented_in_its_own_way():
    images = torch.arange(4.0).view(1, 1, 2, 2).expand(40, 1, 2, 2)
    same = MemoryImages(images, torch.zeros(40).long(), (0.0,), (1.0,), Augment(flip=True))
    first, second = (batch for batch, _ in same.shuffled(20, seed=0))
    assert not torch.equal(first, second)


def test_a_digest_tells_images_and_labels():
    images = numbered_images([0, 1, 1])
    others = [numbered_images([0, 0, 1]), replace(images, images=images.images + 1)]
    assert images.digest() == numbered_images([0, 1, 1]).digest()
    assert len({one.digest() for one in (images, images.subset(torch.arange(2)), *others)}) == 4
