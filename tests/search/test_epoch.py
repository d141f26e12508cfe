"""What the steps of an epoch are given: images, seeds, and the settings that are theirs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import pytest
import torch
from torch import Tensor

from pcdarts_fast.data import DATASETS, Augment, Shard, load
from pcdarts_fast.search import EpochDone, loop, search
from pcdarts_fast.search import epoch as epochs
from pcdarts_fast.testing.outcome import of


@dataclass
class Steps:
    """The steps of one kind, in order."""

    seeds: list[int] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    clips: set[float | None] = field(default_factory=set)

    def of_epochs(self, steps: int) -> list[bytes]:
        """The images of every epoch, in the order in which they came."""
        parts = [self.images[n : n + steps] for n in range(0, len(self.images), steps)]
        return [torch.cat(part).numpy().tobytes() for part in parts]

    def distinct(self) -> set[bytes]:
        return {image.numpy().tobytes() for batch in self.images for image in batch}


def record(steps: Steps, original, network, optimizer, batch, **settings):
    steps.seeds.append(torch.initial_seed())
    steps.images.append(batch[0].clone())
    steps.clips.add(settings["grad_clip"])
    return original(network, optimizer, batch, **settings)


@pytest.fixture
def recorded(monkeypatch) -> tuple[Steps, Steps]:
    """Those of the weights and of the architecture; images come as they are."""
    weights, architecture = Steps(), Steps()
    for name, steps in (("weight_step", weights), ("architecture_step", architecture)):
        monkeypatch.setattr(epochs, name, partial(record, steps, getattr(epochs, name)))
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], augment=Augment()))
    return weights, architecture


def test_both_kinds_of_steps_have_their_own_images_and_settings(
    tiny, tmp_path, recorded, monkeypatch
):
    weights, architecture = recorded
    validated = Steps()

    def mean_of(run, state, batches, forward):
        validated.images += [images for images, _ in batches]
        return 7.0, 0.5

    monkeypatch.setattr(epochs, "mean_of", mean_of)
    config = replace(tiny, epochs=3, frozen_epochs=0, grad_clip=7.0, arch_grad_clip=3.0)
    lines = [event.metrics for event in of(EpochDone, search(config, tmp_path))]
    assert validated.distinct() == architecture.distinct()
    assert {(line["valid_loss"], line["valid_accuracy"]) for line in lines} == {(7.0, 0.5)}
    assert (weights.clips, architecture.clips) == ({7.0}, {3.0})
    assert weights.distinct() and architecture.distinct()
    assert not weights.distinct() & architecture.distinct()
    for steps in recorded:
        assert len(set(steps.of_epochs(6))) == 3  # in another order in every epoch
    assert weights.seeds == architecture.seeds and len(set(weights.seeds)) == 3 * 6


def test_passes_over_a_smaller_part_go_on_in_the_middle(tiny):
    part = load("digits").train.subset(torch.arange(100))  # 3 batches of 48
    whole = [x for x, _ in islice(epochs._arch_batches(tiny, part, Shard(), 1, 0), 9)]
    assert not torch.equal(whole[0], whole[3])
    for start in (2, 4):
        rest = epochs._arch_batches(tiny, part, Shard(), 1, start)
        for (images, _), wanted in zip(rest, whole[start:], strict=False):
            assert torch.equal(images, wanted)


def test_seed_and_fractions_decide_which_images_are_whose(tiny, tmp_path, monkeypatch):
    parts = []

    def stop(run, config, state, for_weights, for_arch):
        parts.append((for_weights.digest(), for_arch.digest()))
        assert len(for_weights.labels) > 1.9 * len(for_arch.labels)
        raise InterruptedError

    monkeypatch.setattr(loop, "epoch_of_search", stop)
    for number, seed in enumerate((0, 0, 1)):
        with pytest.raises(InterruptedError):
            list(search(replace(tiny, seed=seed, valid_fraction=0.1), tmp_path / str(number)))
    assert parts[0] == parts[1]
    assert not set(parts[1]) & set(parts[2])
