"""Laws of the linear probe, and its agreement with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sslprune.errors import DatasetError
from sslprune.evaluate.probe import Probe, fit


def blobs(seed: int, count: int, dims: int = 8, classes: int = 3, apart: float = 6.0) -> tuple[Tensor, Tensor]:
    """Round clouds whose centres are `apart` standard deviations away from the origin, along axes of their own."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    return torch.randn(count, dims, generator=generator) + apart * F.one_hot(y, dims).float(), y


def objective(probe: Probe, x: Tensor, y: Tensor) -> float:
    loss = F.cross_entropy(probe.logits(x).double(), y) + probe.l2 / 2 * probe.weight.double().square().sum()
    return loss.item()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_separable_blobs_are_separated(seed: int) -> None:
    probe = fit(*blobs(seed, 90))
    assert probe.accuracy(*blobs(seed + 1, 300)) > 99
    assert probe.held_out > 99
    assert probe.weight.isfinite().all()


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_random_labels_stay_near_chance(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(500, 5, generator=generator), torch.randint(4, (500,), generator=generator)
    fresh_x, fresh_y = torch.randn(2000, 5, generator=generator), torch.randint(4, (2000,), generator=generator)
    assert 19 < fit(x, y).accuracy(fresh_x, fresh_y) < 31


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    scales=st.lists(st.floats(0.01, 100.0), min_size=8, max_size=8),
    shifts=st.lists(st.floats(-10.0, 10.0), min_size=8, max_size=8),
)
def test_rescaled_features_give_the_same_classifier(seed: int, scales: list[float], shifts: list[float]) -> None:
    x, y = blobs(seed, 90, apart=1.0)
    fresh, _ = blobs(seed + 1, 50, apart=1.0)
    scale = torch.tensor(scales)
    shift = torch.tensor(shifts) * scale
    grid = (1e-2,)
    plain = fit(x, y, l2_grid=grid).logits(fresh)
    rescaled = fit(x * scale + shift, y, l2_grid=grid).logits(fresh * scale + shift)
    torch.testing.assert_close(rescaled, plain, rtol=0.01, atol=0.01)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), l2=st.sampled_from([1e-1, 1e-2, 1e-3]))
def test_reaches_the_minimum_that_scikit_learn_finds(seed: int, l2: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = blobs(seed, 200, apart=1.0)
    probe = fit(x, y, l2_grid=(l2,))

    standardised = ((x - probe.mean) / probe.std).double().numpy()
    reference = linear_model.LogisticRegression(C=1 / (l2 * len(x)), tol=1e-8, max_iter=10_000)
    reference.fit(standardised, y.numpy())
    theirs = Probe(
        mean=probe.mean,
        std=probe.std,
        weight=torch.from_numpy(reference.coef_).float(),
        bias=torch.from_numpy(reference.intercept_).float(),
        l2=l2,
        classes=probe.classes,
        held_out=0.0,
        converged=True,
    )
    assert objective(probe, x, y) == pytest.approx(objective(theirs, x, y), rel=1e-3)
    assert probe.converged


def test_equal_input_gives_an_equal_probe() -> None:
    x, y = blobs(0, 120, apart=1.0)
    first, second = fit(x, y, seed=1), fit(x, y, seed=1)
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("mean", "std", "weight", "bias"))
    assert (first.l2, first.held_out) == (second.l2, second.held_out)


def test_the_features_given_are_left_alone() -> None:
    x, y = blobs(0, 60)
    before = x.clone()
    fit(x, y)
    assert torch.equal(x, before)


def drowned(count: int) -> tuple[Tensor, Tensor]:
    """Two classes told apart only by the small difference of two features: a large penalty cannot see it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 1, generator=generator)
    y = torch.arange(count) % 2
    return noise + 0.02 * torch.stack([y, -y], 1), y


def overfitted(count: int) -> tuple[Tensor, Tensor]:
    """Faint classes in nearly half as many features as images: without a penalty all labels are learnt by heart."""
    y = torch.arange(count) % 2
    noise = torch.randn(count, 9 * count // 20, generator=torch.Generator().manual_seed(0))
    return noise + 0.1 * (2 * y[:, None] - 1), y


@pytest.mark.parametrize(("data", "right", "wrong"), [(drowned, 1e-5, 10.0), (overfitted, 10.0, 1e-5)])
def test_the_penalty_is_chosen_by_what_was_held_out(
    data: Callable[[int], tuple[Tensor, Tensor]], right: float, wrong: float
) -> None:
    x, y = data(600)
    alone = {l2: fit(x, y, l2_grid=(l2,)).held_out for l2 in (right, wrong)}
    assert alone[right] > alone[wrong] + 5
    probe = fit(x, y, l2_grid=(wrong, right))
    assert probe.l2 == right
    assert probe.held_out == pytest.approx(alone[right], abs=1.7)  # one of 60 images may go either way


def test_a_draw_goes_to_the_larger_penalty() -> None:
    assert fit(*blobs(0, 90), l2_grid=(1e-3, 1e-1, 1e-2)).l2 == 1e-1


def test_a_constant_feature_is_only_centred() -> None:
    x, y = blobs(0, 60)
    x[:, 7] = 1234.567
    probe = fit(x, y)
    assert probe.std[7] == 1
    assert probe.mean[7] == x[0, 7]
    assert probe.weight[:, 7].abs().max() < 1e-6


def test_a_dead_network_gives_the_most_frequent_class() -> None:
    y = torch.tensor([0, 1, 1, 2] * 10)
    probe = fit(torch.full((40, 6), 0.3), y)
    assert probe.accuracy(torch.full((40, 6), 0.3), y) == 50
    assert not probe.weight.any()


def test_a_class_without_images_is_never_guessed() -> None:
    x, y = blobs(0, 60)
    probe = fit(x, y * 2, classes=["a", "nobody", "b", "nothing", "c"])
    assert probe.weight.shape == (5, 8)
    assert set(probe.logits(x).argmax(1).tolist()) == {0, 2, 4}


def test_works_inside_inference_mode_and_without_gradients() -> None:
    with torch.inference_mode():
        x, y = blobs(0, 60)
        inside = fit(x, y)
    with torch.no_grad():
        outside = fit(*blobs(0, 60))
    assert torch.equal(inside.weight, outside.weight)


def test_a_solver_stopped_at_its_limit_says_so() -> None:
    assert not fit(*blobs(0, 90, apart=1.0), max_iterations=1).converged


def test_logits_are_the_same_in_pieces() -> None:
    probe = fit(*blobs(0, 60))
    x, _ = blobs(1, 20_000)
    torch.testing.assert_close(probe.logits(x)[-3:], probe.logits(x[-3:]))


def test_what_does_not_fit_is_refused() -> None:
    x, y = blobs(0, 60)
    with pytest.raises(DatasetError, match="all 60 training labels are 0"):
        fit(x, torch.zeros_like(y))
    with pytest.raises(DatasetError, match="image 4 are not finite"):
        fit(x.index_fill(0, torch.tensor([4]), float("nan")), y)
    for grid in ((), (0.0,), (-1.0,), (float("nan"),), (float("inf"),)):
        with pytest.raises(DatasetError, match="l2_grid"):
            fit(x, y, l2_grid=grid)
    probe = fit(x, y)
    with pytest.raises(DatasetError, match=r"the probe takes \[N,8\]"):
        probe.logits(x[:, :7])
    with pytest.raises(DatasetError, match="60 features go with labels"):
        probe.accuracy(x, y[:59])
