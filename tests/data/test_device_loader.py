"""A batch is a function of seed, round and update; an epoch sees every image at most once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslprune.data.device_loader import DeviceLoader, channel_statistics
from sslprune.data.draws import generator_for
from sslprune.errors import DatasetError

IMAGES = np.random.default_rng(0).integers(1, 256, (12, 5, 5, 3), np.uint8)
MEAN, STD = (0.5, 0.25, 0.75), (0.25, 0.5, 1.0)


def loader(count: int = 12, batch: int = 4, seed: int = 0, **options) -> DeviceLoader:
    options = {"padding": 1, "flip": True, "mean": MEAN, "std": STD, **options}
    return DeviceLoader(IMAGES[:count], np.arange(count), batch=batch, seed=seed, **options)


def pixels(batch_images: Tensor) -> Tensor:
    """Back to 0..255, as float."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (batch_images * std + mean) * 255


places = st.tuples(st.integers(0, 3), st.integers(0, 30))


@given(st.lists(places, min_size=1, max_size=6), places, st.integers(0, 2**31 - 1))
def test_a_batch_depends_on_nothing_that_was_asked_before(
    before: list[tuple[int, int]], place: tuple[int, int], seed: int
) -> None:
    fresh, used = loader(seed=seed), loader(seed=seed)
    for earlier in before:
        used(*earlier)
    (one, one_draws), (other, other_draws) = fresh(*place), used(*place)
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.indices, other.indices)
    assert torch.equal(one_draws.generator.get_state(), other_draws.generator.get_state())


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_sees_every_image_at_most_once_and_leaves_out_less_than_a_batch(
    count: int, batch: int, round_number: int, epoch: int
) -> None:
    data = loader(count, batch)
    updates = range(epoch * data.per_epoch, (epoch + 1) * data.per_epoch)
    batches = [data(round_number, update)[0] for update in updates]
    seen = torch.cat([each.indices for each in batches]).tolist()
    assert len(seen) == len(set(seen))
    assert all(len(each.images) == min(batch, count) for each in batches)
    assert count - len(seen) < min(batch, count)


def test_rounds_epochs_updates_and_seeds_differ() -> None:
    def order(data: DeviceLoader, round_number: int, epoch: int) -> list[int]:
        return [int(i) for update in range(3) for i in data(round_number, epoch * 3 + update)[0].indices]

    orders = [order(loader(seed=seed), n, epoch) for seed in (0, 1) for n in (0, 1) for epoch in (0, 1)]
    assert len({tuple(each) for each in orders}) == 8
    whole = loader(batch=12, padding=2)
    batches = [whole(n, update)[0] for n in (0, 1) for update in (0, 1)]
    shown = [each.images[each.indices.argsort()] for each in batches]
    assert all(not torch.equal(shown[i], shown[j]) for i in range(4) for j in range(i))


def test_without_views_a_batch_is_the_normalised_images_with_their_labels() -> None:
    batch, _ = loader(padding=0, flip=False)(0, 1)
    assert batch.images.dtype == torch.float32
    assert batch.images.shape == (4, 3, 5, 5)
    assert torch.equal(batch.labels, batch.indices)
    expected = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)[batch.indices].float()
    assert torch.allclose(pixels(batch.images), expected, atol=1e-3)


def test_with_views_every_pixel_comes_from_the_own_image_or_the_black_border() -> None:
    batch, _ = loader(batch=12, padding=2)(0, 0)
    moved = 0
    for view, index in zip(pixels(batch.images).round().byte(), batch.indices.tolist(), strict=True):
        colours = {tuple(colour) for colour in IMAGES[index].reshape(-1, 3).tolist()} | {(0, 0, 0)}
        assert {tuple(colour) for colour in view.permute(1, 2, 0).reshape(-1, 3).tolist()} <= colours
        moved += not np.array_equal(view.permute(1, 2, 0).numpy(), IMAGES[index])
    assert moved > 6


def test_data_without_labels_gives_batches_without() -> None:
    data = DeviceLoader(IMAGES, None, batch=4, mean=MEAN, std=STD, seed=0)
    assert data(0, 0)[0].labels is None


def test_the_images_given_are_left_alone() -> None:
    before = IMAGES.copy()
    loader()(0, 0)[0].images.zero_()
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize(
    "images", [IMAGES.astype(np.float32), IMAGES[0], IMAGES[:0], IMAGES[..., :1], IMAGES.transpose(0, 3, 1, 2)]
)
def test_what_is_no_set_of_pictures_is_refused(images: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="not uint8"):
        DeviceLoader(images, None, batch=4, mean=MEAN, std=STD, seed=0)


def test_no_two_purposes_share_a_stream() -> None:
    purposes = [(0, "views", 1, 2), (0, "order", 1, 2), (1, "views", 1, 2), (0, "views", 12, 0), (0, "views", 1, 20)]
    seeds = [generator_for(*purpose).initial_seed() for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert generator_for(*purposes[0]).initial_seed() == seeds[0]


def test_batches_are_the_same_for_ever() -> None:
    batch, draws = loader()(2, 7)
    assert batch.indices.tolist() == [4, 10, 2, 7]
    assert draws.generator.initial_seed() == 5_291_005_077_739_292_405


def test_channel_statistics_are_numpys_rounded_to_four_digits() -> None:
    images = np.random.default_rng(1).integers(0, 256, (50, 8, 8, 3), np.uint8)
    images[..., 1] //= 3
    means, deviations = channel_statistics(images)
    scaled = images.reshape(-1, 3) / 255
    assert np.allclose(means, scaled.mean(0), atol=6e-5)
    assert np.allclose(deviations, scaled.std(0), atol=6e-5)
    assert all(round(value, 4) == value for value in (*means, *deviations))


def test_a_constant_channel_has_deviation_one() -> None:
    means, deviations = channel_statistics(np.full((3, 2, 2, 3), 51, np.uint8))
    assert (means, deviations) == ((0.2, 0.2, 0.2), (1.0, 1.0, 1.0))


@given(places, st.integers(2, 4))
def test_copies_are_crops_of_the_same_images_each_with_its_own(place: tuple[int, int], copies: int) -> None:
    batch, _ = loader(batch=12, padding=2, copies=copies)(*place)
    assert batch.images.shape == (12 * copies, 3, 5, 5)
    assert batch.indices.shape == (12,)
    groups = batch.images.view(copies, 12, 3, 5, 5)
    assert not torch.equal(groups[0], groups[1])
    plain, _ = loader(batch=12, padding=0, flip=False, copies=copies)(*place)
    assert torch.equal(plain.images, loader(batch=12, padding=0, flip=False)(*place)[0].images.repeat(copies, 1, 1, 1))


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_labelled_images_come_beside_as_many_as_the_others_and_in_full_passes(
    known: int, batch: int, round_number: int
) -> None:
    labels = np.full(12, -1)
    labels[:known] = np.arange(known) % 3
    data = DeviceLoader(IMAGES, labels, batch=batch, mean=MEAN, std=STD, seed=0, labelled=True)
    updates = -(-2 * known // batch)
    beside = [data(round_number, update)[0].labelled for update in range(updates)]
    assert all(len(each.indices) == batch for each in beside)
    stream = torch.cat([each.indices for each in beside]).tolist()
    for start in range(0, 2 * known, known):
        assert sorted(stream[start : start + known]) == list(range(known))
    for each in beside:
        assert torch.equal(each.labels, torch.from_numpy(labels)[each.indices])
    again = DeviceLoader(IMAGES, labels, batch=batch, mean=MEAN, std=STD, seed=0, labelled=True)
    assert torch.equal(again(round_number, updates - 1)[0].labelled.images, beside[-1].images)


def test_labelled_images_neither_move_the_others_nor_come_where_none_were_asked_for() -> None:
    labels = np.arange(12)
    beside = DeviceLoader(IMAGES, labels, batch=4, mean=MEAN, std=STD, seed=0, padding=1, flip=True, labelled=True)
    assert torch.equal(beside(1, 2)[0].images, loader()(1, 2)[0].images)
    assert loader()(1, 2)[0].labelled is None
    for unlabelled in (None, np.full(12, -1)):
        with pytest.raises(DatasetError, match="no image has a label"):
            DeviceLoader(IMAGES, unlabelled, batch=4, mean=MEAN, std=STD, seed=0, labelled=True)


def test_standardised_images_go_back_to_their_colours() -> None:
    batch, _ = loader(padding=0, flip=False)(0, 0)
    expected = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)[batch.indices] / 255
    torch.testing.assert_close(batch.scale.undo(batch.images), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(batch.scale.standardise(expected), batch.images, atol=1e-5, rtol=0)


@given(places, st.sampled_from([2, 3, 6]), st.integers(1, 3))
def test_the_parts_of_all_processes_are_the_batch_of_one(place: tuple[int, int], world: int, copies: int) -> None:
    options = {"batch": 6, "copies": copies, "labelled": True}
    whole, draws = loader(**options)(*place)
    assert whole.labelled is not None
    parts = [loader(**options, rank=rank, world=world)(*place) for rank in range(world)]
    for one, of_parts in (
        (whole, [part for part, _ in parts]),
        (whole.labelled, [part.labelled for part, _ in parts]),
    ):
        assert torch.equal(torch.cat([part.indices for part in of_parts]), one.indices)
        assert torch.equal(torch.cat([part.labels for part in of_parts]), one.labels)
        views = [part.images.view(copies, 6 // world, 3, 5, 5) for part in of_parts]
        assert torch.equal(torch.cat(views, 1).flatten(0, 1), one.images)
    drawn = torch.cat([own.rand(6 // world) for _, own in parts])
    assert torch.equal(drawn, draws.rand(6))


def test_a_batch_that_does_not_go_into_equal_parts_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"a batch of 4 images does not go into 3 .*\n.*divides 4"):
        loader(world=3)
    loader(count=3, world=3)  # here the batch is the whole set
