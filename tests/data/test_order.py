"""The order of images: the one of small data sets, and the same for any way of asking."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sslprune.data.device_loader import DeviceLoader
from sslprune.data.order import LabelledOrder, Order

seeds = st.integers(0, 2**31 - 1)
rounds = st.integers(0, 9)


@given(st.integers(1, 30), st.integers(1, 30), seeds, rounds, st.integers(0, 200))
def test_large_data_sets_come_in_the_order_of_small_ones(
    images: int, batch: int, seed: int, round_number: int, update: int
) -> None:
    labels = np.arange(images) % 3 - 1
    labels[0] = 1
    small = DeviceLoader(
        np.zeros((images, 1, 1, 3), np.uint8),
        labels,
        batch=batch,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        seed=seed,
        labelled=True,
    )
    order = Order(images, small.batch, seed)
    theirs, _ = small(round_number, update)
    assert order.per_epoch == small.per_epoch
    assert order.at(round_number, update).tolist() == theirs.indices.tolist()
    labelled = LabelledOrder(np.flatnonzero(labels >= 0), small.batch, seed)
    assert theirs.labelled is not None
    assert labelled.at(round_number, update).tolist() == theirs.labelled.indices.tolist()


@given(st.integers(1, 30), st.data(), seeds, rounds, st.integers(0, 50))
def test_a_place_can_go_to_every_image_and_never_twice(
    images: int, data: st.DataObject, seed: int, round_number: int, update: int
) -> None:
    batch = data.draw(st.integers(1, images))
    position = data.draw(st.integers(0, batch - 1))
    order = Order(images, batch, seed)
    substitutes = [order.instead(round_number, update, position, tries) for tries in range(1, images + 1)]
    assert sorted(substitutes) == list(range(images))
    if (update + 1) % order.per_epoch:  # first the one at the same place of the next update, not of this batch
        assert substitutes[0] == order.at(round_number, update + 1)[position]


@given(st.integers(1, 30), st.integers(1, 40), seeds, rounds, st.integers(0, 50))
def test_a_labelled_place_goes_to_the_next_updates(
    known: int, batch: int, seed: int, round_number: int, update: int
) -> None:
    order = LabelledOrder(np.arange(known) * 2, batch, seed)
    assert order.instead(round_number, update, batch - 1, 1) == order.at(round_number, update + 1)[-1]
    substitutes = {order.instead(round_number, update, 0, tries) for tries in range(1, 2 * known)}
    assert substitutes == set(range(0, 2 * known, 2))
