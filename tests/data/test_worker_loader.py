"""Batches made by workers: functions of (seed, round, update), whoever makes them and whenever they are asked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sslprune.data.crops import random_crop
from sslprune.data.encoded import EncodedImages, ImageFiles
from sslprune.data.worker_loader import PIECE, WorkerLoader, chance_for
from sslprune.errors import DatasetError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty small pictures of different measures."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for number in range(50):
        height, width = draw.integers(12, 40, 2)
        Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def pictures(root: Path, *, bad: tuple[int, ...] = ()) -> EncodedImages:
    """The pictures, some of which are not there."""
    paths = [f"{'missing' if number in bad else number}.png" for number in range(50)]
    return ImageFiles(root, paths, np.arange(50) % 5)


def loader(images: EncodedImages, **options: Any) -> WorkerLoader:
    labels = options.pop("labels", images.labels)
    return WorkerLoader(
        images, labels, **{"batch": 12, "mean": MEAN, "std": STD, "seed": 3, "size": 10, "workers": 0, **options}
    )


def several_updates(loader: WorkerLoader, updates: range) -> None:
    for update in updates:
        loader(0, update)
        time.sleep(0.01)


def same(one: Any, other: Any) -> bool:
    first, second = one[0], other[0]
    pairs = [(first, second)] if first.labelled is None else [(first, second), (first.labelled, second.labelled)]
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.indices, b.indices) and torch.equal(a.labels, b.labels)
        for a, b in pairs
    )


def test_a_batch_is_random_crops_standardised(root: Path) -> None:
    images = pictures(root)
    batch, draws = loader(images, copies=2)(1, 5)
    assert batch.images.shape == (24, 3, 10, 10)
    assert batch.images.dtype == torch.float32
    assert batch.labels is not None
    assert batch.labels.tolist() == [index % 5 for index in batch.indices.tolist()]
    for copy, place in ((0, 0), (1, 11)):
        chance = chance_for(3, "view", 1, 5, 0, place, copy)
        pixels = random_crop(images.read(int(batch.indices[place])), 10, chance, flip=True)
        expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
            STD
        ).view(3, 1, 1)
        torch.testing.assert_close(batch.images[copy * 12 + place], expected)
    assert (draws.images, draws.first, draws.count) == (12, 0, 12)
    undone = batch.scale.undo(batch.images)
    assert undone.min() >= 0
    assert undone.max() <= 1


def test_copies_and_updates_and_rounds_and_seeds_differ(root: Path) -> None:
    first = loader(pictures(root), copies=2)
    batch = first(0, 0)[0]
    assert not torch.equal(batch.images[:12], batch.images[12:])
    for other in (first(0, 4), first(1, 0), loader(pictures(root), copies=2, seed=4)(0, 0)):
        assert not torch.equal(batch.images, other[0].images)


def test_the_number_of_workers_changes_nothing_and_none_is_left(root: Path) -> None:
    asked = [(0, 0), (0, 1), (0, 2), (0, 7), (0, 8), (2, 1), (0, 1)]  # sequences, and jumps on and back
    expected = [loader(pictures(root), labelled=True)(*each) for each in asked]
    before = set(multiprocessing.active_children())
    for workers in (1, 3):
        several = loader(pictures(root), labelled=True, workers=workers)
        assert all(same(several(*each), batch) for each, batch in zip(asked, expected, strict=True))
        running = set(multiprocessing.active_children()) - before
        assert len(running) == workers
        several.close()
        assert not running & set(multiprocessing.active_children())
        assert same(several(0, 2), expected[2])
        del several
        assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("world", [2, 3])
def test_each_process_takes_its_part_of_the_global_batch(root: Path, world: int) -> None:
    options = {"copies": 2, "labelled": True, "labels": np.arange(50) % 7 - 1}
    whole, draws = loader(pictures(root), **options)(1, 2)
    own = 12 // world
    numbers = draws.rand(24)
    assert whole.labelled is not None
    for rank in range(world):
        part, its = loader(pictures(root), rank=rank, world=world, **options)(1, 2)
        mine = slice(rank * own, (rank + 1) * own)
        for all_, some in ((whole, part), (whole.labelled, part.labelled)):
            assert some is not None
            assert torch.equal(some.indices, all_.indices[mine])
            assert torch.equal(some.images, all_.images.view(2, 12, 3, 10, 10)[:, mine].flatten(0, 1))
        assert torch.equal(its.rand(2 * own), numbers.view(2, 12)[:, mine].flatten())


def test_labelled_images_have_labels_and_views_of_their_own(root: Path) -> None:
    labels = np.full(50, -1)
    labels[[4, 8]] = 1
    batch, _ = loader(pictures(root), labelled=True, labels=labels)(0, 0)
    assert batch.labelled is not None
    assert set(batch.labelled.indices.tolist()) == {4, 8}
    assert batch.labelled.labels is not None
    assert (batch.labelled.labels == 1).all()
    assert len({image.numpy().tobytes() for image in batch.labelled.images}) == 12


def test_fewer_images_than_a_batch_are_one_batch_and_many_pieces_one_tensor(root: Path) -> None:
    small = loader(pictures(root), batch=512)
    assert (small.batch, small.per_epoch) == (50, 1)
    assert PIECE < 50
    assert sorted(small(0, 3)[0].indices.tolist()) == list(range(50))
    assert loader(pictures(root), labels=None)(0, 0)[0].labels is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_skipped_and_counted(root: Path, workers: int) -> None:
    bad = (7, 20)
    sound, broken = loader(pictures(root)), loader(pictures(root, bad=bad), tolerated=0.04, workers=workers)
    for update in range(4):
        whole, batch = sound(0, update)[0].indices.tolist(), broken(0, update)[0].indices.tolist()
        assert not set(batch) & set(bad)
        following = sound(0, update + 1)[0].indices.tolist()
        for place, (index, got) in enumerate(zip(whole, batch, strict=True)):
            assert got == index or (index in bad and (update == 3 or got == following[place]))
    assert set(broken.unreadable) == set(bad)
    assert all("missing.png" in why for why in broken.unreadable.values())
    assert broken.report() == {"unreadable": 2}
    again = loader(pictures(root, bad=bad), tolerated=0.04)
    assert same(again(0, 2), broken(0, 2))
    broken.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_unreadable_images_are_an_error(root: Path, workers: int) -> None:
    broken = loader(pictures(root, bad=(1, 2, 3, 4, 5)), tolerated=0.08, workers=workers)
    before = set(multiprocessing.active_children())
    with pytest.raises(DatasetError, match=r"more than 4 images are unreadable, the first one: .*missing\.png"):
        several_updates(broken, range(4))
    assert set(multiprocessing.active_children()) == before
    with pytest.raises(DatasetError, match="more than 0 images"):
        loader(pictures(root, bad=tuple(range(50))), tolerated=0.0)(0, 0)


def test_a_worker_that_dies_is_a_named_error(root: Path) -> None:
    before = set(multiprocessing.active_children())
    several = loader(pictures(root), workers=1, batch=50)
    several(0, 0)
    (worker,) = set(multiprocessing.active_children()) - before
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DatasetError, match="worker that decodes images has died"):
        several_updates(several, range(1, 50))
    assert set(multiprocessing.active_children()) == before
    assert len(several(0, 1)[0].images) == 50
    several.close()


def test_what_cannot_be_batches_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="12 images does not go into 5"):
        loader(pictures(root), world=5)
    with pytest.raises(DatasetError, match="no images"):
        loader(ImageFiles(root, [], None))
    for labels in (None, np.full(50, -1)):
        with pytest.raises(DatasetError, match="no image has a label"):
            loader(pictures(root), labelled=True, labels=labels)
