"""A search on a folder of as many classes as ImageNet has, by its preset."""

from __future__ import annotations

from dataclasses import replace

from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search import EpochDone, Started, search
from pcdarts_fast.testing.outcome import of
from pcdarts_fast.testing.photos import write_photos


def test_an_epoch_on_a_thousand_classes(tmp_path) -> None:
    write_photos(tmp_path / "data" / "train", 1000, 2, size=(64, 48))
    write_photos(tmp_path / "data" / "val", 1000, 1, size=(64, 48))
    config = replace(
        search_config("imagenet"),
        data_dir=tmp_path / "data",
        image_size=64,
        # By index of every class: one image for the weights, one for the architecture.
        train_fraction=0.5,
        valid_fraction=0.5,
        init_channels=4,
        layers=3,
        nodes=1,
        epochs=1,
        frozen_epochs=0,
        batch_size=250,
        workers=1,
        device="cpu",
    )
    started, *events, finished = search(config, tmp_path / "run")
    assert isinstance(started, Started)
    assert started.train_images == started.valid_images == 1000
    (done,) = of(EpochDone, events)
    assert 5 < done.metrics["valid_loss"] < 9  # of 1,000 classes by chance: 6.9
    assert len(finished.genotype.normal) == 2
