"""Weighted nearest neighbours on frozen features (Wu et al. 2018, "NPID", arXiv 1805.01978, section 3.4).

Of the k most cosine-similar training images each votes for its class with weight exp(similarity / temperature).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslprune.errors import DatasetError
from sslprune.evaluate.labelled import check_features, label_tensor

TEMPERATURE = 0.1
"""The `sigma` of the authors' CIFAR-10 code (paper: 0.07 on ImageNet)."""

MOST_NEIGHBOURS = 200
"""The paper's k."""

_CELLS = 1 << 24


def neighbours(n_train: int) -> int:
    """k = 200, or a twentieth of the training set where that is less: `min(200, max(1, n_train // 20))`.

    >>> neighbours(50_000), neighbours(1_437), neighbours(10)
    (200, 71, 1)
    """
    return min(MOST_NEIGHBOURS, max(1, n_train // 20))


def knn_predict(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, *, k: int | None = None, temperature: float = TEMPERATURE
) -> Tensor:
    """Predict classes; computed where the features lie.

    Ties have no order to depend on: training images that are equally similar share the places left among the k evenly,
    and of equally voted classes the lowest wins.

    Args:
        train_x: Float [N,D].
        train_y: Integers [N] from 0.
        test_x: Float [M,D].
        k: Neighbours that vote, 1 to N; None takes `neighbours(N)`.
        temperature: Positive; the lower, the more the nearest ones count.

    Returns:
        int64 [M] on the CPU.

    Raises:
        DatasetError: Shapes do not fit, a feature is not finite, or k or the temperature is out of range.
    """
    train_x = check_features(train_x)
    test_x = check_features(test_x, what="test", width=train_x.shape[1])
    labels = label_tensor(train_y, len(train_x)).to(train_x.device)
    k = neighbours(len(train_x)) if k is None else k
    if not 1 <= k <= len(train_x) or not temperature > 0:
        raise DatasetError(
            f"k={k} with temperature={temperature} cannot vote among {len(train_x)} training images.",
            "Give k from 1 to their number and a positive temperature.",
        )
    keys = F.normalize(train_x, dim=1).T
    one_hot = F.one_hot(labels).float()
    queries = F.normalize(test_x.to(train_x.device), dim=1)
    rows = max(1, _CELLS // len(train_x))
    return torch.cat([_votes(part @ keys, one_hot, k, temperature).argmax(1).cpu() for part in queries.split(rows)])


def knn_accuracy(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    k: int | None = None,
    temperature: float = TEMPERATURE,
) -> float:
    """Top-1 in per cent; see `knn_predict`."""
    truth = label_tensor(test_y, len(test_x), what="test")
    return float((knn_predict(train_x, train_y, test_x, k=k, temperature=temperature) == truth).double().mean() * 100)


def _votes(similarity: Tensor, one_hot: Tensor, k: int, temperature: float) -> Tensor:
    nearest, index = similarity.topk(k, dim=1)
    weight = ((nearest - nearest[:, :1]) / temperature).exp()  # exp could not hold the factor left out
    votes = similarity.new_zeros(len(similarity), one_hot.shape[1])
    votes.scatter_add_(1, one_hot.argmax(1)[index], weight)

    last = nearest[:, -1:]
    inside = nearest == last
    tied = ((similarity == last).sum(1) > inside.sum(1)).nonzero()[:, 0]
    if len(tied):
        at_last = (similarity[tied] == last[tied]).float()
        clear = torch.where(inside[tied], 0.0, weight[tied])
        share = weight[tied, -1:] * inside[tied].sum(1, keepdim=True) / at_last.sum(1, keepdim=True)
        votes[tied] = (at_last @ one_hot) * share
        votes[tied] = votes[tied].scatter_add(1, one_hot.argmax(1)[index[tied]], clear)
    return votes
