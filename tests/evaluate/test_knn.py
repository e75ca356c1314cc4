"""Laws of weighted nearest neighbours."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslprune.errors import DatasetError
from sslprune.evaluate import knn
from sslprune.evaluate.knn import knn_accuracy, knn_predict, neighbours


def random_set(seed: int, count: int, dims: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dims, generator=generator), torch.randint(classes, (count,), generator=generator)


def by_hand(train_x: Tensor, train_y: Tensor, query: Tensor, k: int, temperature: float) -> list[float]:
    """Votes by the definition: of equally similar images at the edge of the k, each counts in part."""
    similar = torch.nn.functional.cosine_similarity(train_x, query[None]).tolist()
    edge = sorted(similar, reverse=True)[k - 1]
    above = sum(s > edge for s in similar)
    at = sum(s == edge for s in similar)
    votes = [0.0] * (int(train_y.max()) + 1)
    for s, label in zip(similar, train_y.tolist(), strict=True):
        share = 1.0 if s > edge else (k - above) / at if s == edge else 0.0
        votes[label] += share * math.exp(s / temperature)
    return votes


seeds = st.integers(0, 2**31)


@given(seed=seeds, k=st.integers(1, 20), temperature=st.floats(0.05, 2.0))
def test_agrees_with_the_definition(seed: int, k: int, temperature: float) -> None:
    train_x, train_y = random_set(seed, 20)
    test_x, _ = random_set(seed + 1, 7)
    found = knn_predict(train_x, train_y, test_x, k=k, temperature=temperature)
    for query, predicted in zip(test_x, found.tolist(), strict=True):
        votes = by_hand(train_x.double(), train_y, query.double(), k, temperature)
        assert votes[predicted] >= max(votes) * (1 - 1e-4)


@given(seed=seeds, powers=st.lists(st.integers(-8, 8), min_size=27, max_size=27))
def test_the_length_of_a_feature_vector_plays_no_part(seed: int, powers: list[int]) -> None:
    train_x, train_y = random_set(seed, 20)
    test_x, _ = random_set(seed + 1, 7)
    scale = torch.tensor([2.0**power for power in powers])[:, None]
    scaled = knn_predict(train_x * scale[:20], train_y, test_x * scale[20:], k=5)
    assert torch.equal(scaled, knn_predict(train_x, train_y, test_x, k=5))


@given(seed=seeds, order=st.permutations(range(20)), k=st.integers(1, 20))
def test_the_order_of_the_training_set_plays_no_part_even_with_ties(seed: int, order: list[int], k: int) -> None:
    # Features from {-1,0,1}^2 * 0.6/0.8 repeat themselves, so that many similarities tie exactly.
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    train_x = corners[torch.randint(4, (20,), generator=generator)]
    train_y = torch.randint(3, (20,), generator=generator)
    test_x = corners
    expected = knn_predict(train_x, train_y, test_x, k=k)
    assert torch.equal(knn_predict(train_x[list(order)], train_y[list(order)], test_x, k=k), expected)


@given(seed=seeds, order=st.permutations(range(7)))
def test_permuted_queries_give_permuted_answers(seed: int, order: list[int]) -> None:
    train_x, train_y = random_set(seed, 20)
    test_x, _ = random_set(seed + 1, 7)
    expected = knn_predict(train_x, train_y, test_x, k=5)[list(order)]
    assert torch.equal(knn_predict(train_x, train_y, test_x[list(order)], k=5), expected)


@given(seed=seeds)
def test_one_neighbour_recognises_the_training_set_itself(seed: int) -> None:
    x, y = random_set(seed, 30)
    assert knn_accuracy(x, y, x, y, k=1) == 100.0


@given(seed=seeds)
def test_everyone_votes_in_proportion_to_the_classes_for_a_query_without_direction(seed: int) -> None:
    train_x, train_y = random_set(seed, 30)
    most = torch.bincount(train_y).argmax()
    assert knn_predict(train_x, train_y, torch.zeros(1, 6), k=1).item() == most


def test_equal_votes_go_to_the_lowest_class() -> None:
    train_x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert knn_predict(train_x, torch.tensor([2, 1]), train_x[:1], k=2).item() == 1
    assert knn_predict(train_x, torch.tensor([2, 1]), train_x[:1], k=1).item() == 1


def test_tied_images_share_the_last_place() -> None:
    # One clear neighbour of class 0; one place left, for which three of class 1 and one of class 2 are equally near:
    # their shares, 3/4 and 1/4 of a vote, stay below the vote of the nearest.
    train_x = torch.tensor([[1.0, 0.0]] + [[0.0, 1.0]] * 4)
    train_y = torch.tensor([0, 1, 1, 2, 1])
    query = torch.tensor([[2.0, 1.0]])
    assert knn_predict(train_x, train_y, query, k=2, temperature=100.0).item() == 0
    assert knn_predict(train_x, train_y, query, k=3, temperature=100.0).item() == 1


def test_a_near_neighbour_outvotes_many_far_ones_only_at_a_low_temperature() -> None:
    train_x = torch.tensor([[1.0, 0.0]] + [[1.0, 1.0]] * 5)
    train_y = torch.tensor([0, 1, 1, 1, 1, 1])
    query = torch.tensor([[1.0, 0.0]])
    assert knn_predict(train_x, train_y, query, k=6, temperature=0.1).item() == 0
    assert knn_predict(train_x, train_y, query, k=6, temperature=10.0).item() == 1
    assert knn_predict(train_x, train_y, query, k=6, temperature=1e-4).item() == 0


def test_pieces_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    train_x, train_y = random_set(0, 200)
    test_x, _ = random_set(1, 50)
    whole = knn_predict(train_x, train_y, test_x)
    monkeypatch.setattr(knn, "_CELLS", 600)
    assert torch.equal(knn_predict(train_x, train_y, test_x), whole)


def test_k_by_the_size_of_the_training_set() -> None:
    assert [neighbours(n) for n in (1, 19, 40, 3_999, 4_000, 10**6)] == [1, 1, 2, 199, 200, 200]


def test_what_does_not_fit_is_refused() -> None:
    x, y = random_set(0, 10)
    for k in (0, 11):
        with pytest.raises(DatasetError, match=f"k={k}"):
            knn_predict(x, y, x, k=k)
    with pytest.raises(DatasetError, match="temperature=0"):
        knn_predict(x, y, x, temperature=0)
    with pytest.raises(DatasetError, match="5 wide, the training features 6"):
        knn_predict(x, y, x[:, :5])
    with pytest.raises(DatasetError, match=r"labels of shape \(9,\)"):
        knn_predict(x, y[:9], x)
    with pytest.raises(DatasetError, match="test features of image 3 are not finite"):
        knn_predict(x, y, x.index_fill(0, torch.tensor([3]), float("nan")))
