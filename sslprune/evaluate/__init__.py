"""How good features are: extraction, neighbours, linear probes, SVMs, fine-tuning, and the rows that record them."""

from __future__ import annotations

from sslprune.evaluate.facade import KnnResult, LinearResult, features, knn_eval, linear_eval
from sslprune.evaluate.transfer import Transfer, evaluate_backbone

__all__ = [
    "KnnResult",
    "LinearResult",
    "Transfer",
    "evaluate_backbone",
    "features",
    "knn_eval",
    "linear_eval",
]
