"""Whoever draws for an image draws the same; one process draws what torch draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from sslprune.data import views
from sslprune.data.draws import Draws

seeds = st.integers(0, 2**31)


def own(whole: Tensor, dim: int, images: int, rank: int, world: int) -> Tensor:
    """The part of a draw that is for a process's images, found by index."""
    copies, share = whole.shape[dim] // images, images // world
    places = [copy * images + rank * share + each for copy in range(copies) for each in range(share)]
    return whole.index_select(dim, torch.tensor(places))


@given(seeds, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_the_parts_of_all_processes_are_what_one_draws(
    seed: int, share: int, world: int, copies: int, dim: int
) -> None:
    images = share * world
    one, whole = Draws(Generator().manual_seed(seed), images), Generator().manual_seed(seed)
    shape, own_shape = [2, 3, 4], [2, 3, 4]
    shape[dim], own_shape[dim] = copies * images, copies * share
    drawn = [one.rand(*shape, dim=dim), one.randint(3, 90, shape, dim=dim), one.rand(*shape, dim=dim)]
    assert torch.equal(drawn[0], torch.rand(shape, generator=whole))
    assert torch.equal(drawn[1], torch.randint(3, 90, shape, generator=whole))
    for rank in range(world):
        part = Draws(Generator().manual_seed(seed), images, rank * share, share)
        assert torch.equal(part.rand(*own_shape, dim=dim), own(drawn[0], dim, images, rank, world))
        assert torch.equal(part.randint(3, 90, own_shape, dim=dim), own(drawn[1], dim, images, rank, world))
        assert torch.equal(part.rand(*own_shape, dim=dim), own(drawn[2], dim, images, rank, world))
        assert torch.equal(part.generator.get_state(), one.generator.get_state())


@pytest.mark.parametrize(
    "view",
    [
        lambda images, chance: views.crop(images, 2, chance),
        views.flip,
        lambda images, chance: views.jitter(images, views.Jitter(0.4, 0.4, 0.4, 0.4, 0.8), chance),
        lambda images, chance: views.grey(images, 0.5, chance),
        lambda images, chance: views.resized_crop(images, 0.2, chance, degrees=20),
    ],
)
def test_an_image_has_the_same_view_whichever_process_sees_it(view) -> None:
    images = torch.rand(6, 3, 8, 8, generator=Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    whole = view(images, Generator().manual_seed(1))
    assert torch.equal(view(images, Draws(Generator().manual_seed(1), 6)), whole)
    for rank in range(3):
        part = view(own(images, 0, 6, rank, 3), Draws(Generator().manual_seed(1), 6, 2 * rank, 2))
        assert torch.equal(part, own(whole, 0, 6, rank, 3))


def test_a_shape_that_is_of_other_images_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="not a multiple of 4 images"):
        Draws(Generator(), 8, 4).rand(2, 6, dim=1)
