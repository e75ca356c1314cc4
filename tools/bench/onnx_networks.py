"""The networks whose ONNX files are measured and tested: pruned without training, yet as well-conditioned as if."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sslprune.bench.synthetic import pruned
from sslprune.export.onnx_pack import Values
from sslprune.models import prunable

SIZES = {"resnet18": 64, "resnet50": 64, "alexnet": 224, "vgg19_bn": 224}
"""Pixels a side. The residual networks' files are the same for any; small images keep the slow runtimes bearable."""


@torch.no_grad()
def calm(arch: str, keep: float) -> nn.Module:
    """A pruned network in which no channel is magnified more than the average one of its layer.

    With hardly a weight left some channels hardly vary, and batch norm makes them as large as the others: through fifty
    random layers torch's own float32 is then off by 1e-4, and no runtime could be told right from wrong by 1e-5.
    """
    model = pruned(arch, keep, size=SIZES[arch], mask="normalised")
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            norm.running_var.clamp_(min=float(norm.running_var.mean()))
    return model


def gap8_bytes(model: nn.Module, values: Values) -> int:
    """What the network's tensors take in a sparse file whose masks are all gap8 (FORMAT.md), without its header."""
    weights = prunable(model)
    total = sum(tensor.nbytes for name, tensor in model.state_dict().items() if name not in weights)
    for weight in weights.values():
        kept = np.flatnonzero(weight.detach().numpy())
        gaps = np.diff(kept, prepend=-1, append=weight.numel()) - 1
        total += kept.size * (4 if values == "fp32" else 2) + kept.size + int((gaps // 255).sum())
    return total
