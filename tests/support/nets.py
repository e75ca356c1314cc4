"""For the tests: a second way to run a graph, and networks with zeros of every kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.graph.nodes import Graph, Node

Replace = Callable[[str, Tensor], Tensor]


def interpret(model: nn.Module, graph: Graph, image: Tensor, replace: Replace = lambda _, x: x) -> dict[str, Tensor]:
    """Compute every node from the graph alone; `replace` may change a node's result before others read it."""
    values: dict[str, Tensor] = {}
    with torch.no_grad():
        for node in graph:
            read = [values[name] for name in node.inputs]
            values[node.name] = replace(node.name, image if node.op == "input" else _compute(model, node, read))
    return values


def _compute(model: nn.Module, node: Node, read: list[Tensor]) -> Tensor:
    layer, how = model.get_submodule(node.layer), node.settings
    match node.op:
        case "conv":
            shape = how["stride"], how["padding"], how["dilation"], how["groups"]
            return F.conv2d(read[0], layer.weight, layer.bias, *shape)
        case "linear":
            return F.linear(read[0], layer.weight, layer.bias)
        case "norm":
            statistics = layer.running_mean, layer.running_var
            return F.batch_norm(read[0], *statistics, layer.weight, layer.bias, eps=how["eps"])
        case "pointwise":
            return node.function(read[0])
        case "add":
            return read[0] + read[1]
        case "mul":
            return read[0] * read[1]
        case "max_pool":
            return F.max_pool2d(
                read[0], how["kernel"], how["stride"], how["margin"], how["dilation"], ceil_mode=how["ceil_mode"]
            )
        case "avg_pool":
            return F.avg_pool2d(
                read[0], how["kernel"], how["stride"], how["padding"], how["ceil"], how["count_include_pad"]
            )
        case "adaptive_pool":
            return F.adaptive_avg_pool2d(read[0], how["size"])
        case "global_pool":
            return read[0].mean((2, 3), keepdim=how["keepdim"])
        case "subsample":
            index = [slice(None)] * 4
            index[how["axis"]] = slice(how["start"], how["end"], how["step"])
            return read[0][tuple(index)]
        case "pad":
            return F.pad(read[0], how["amounts"], value=how["value"])
        case "pad_channels":
            return F.pad(read[0], (0, 0, 0, 0, how["before"], how["after"]), value=how["value"])
        case "concat":
            return torch.cat(read, 1)
        case "flatten":
            return read[0].flatten(1)
    raise AssertionError(f"the interpreter cannot compute {node.op}")


class Medley(nn.Module):
    """One of everything: padded and unpadded, depthwise and grouped convolutions, a gate, a skip, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.norm3 = nn.BatchNorm2d(12)
        self.gate = nn.Conv2d(12, 12, 1)
        self.outer = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.narrow = nn.Conv2d(16, 6, 3, stride=2, bias=False)
        self.hidden = nn.Linear(6 * 2 * 2, 10)
        self.last = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.stem(x)))
        y = F.hardswish(self.norm2(self.inner(x)))
        y = F.relu6(self.norm3(self.depthwise(y)))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        x = F.relu(x + self.norm4(self.outer(y)))
        x = torch.cat([x[:, :, 1:-1, 1:-1], self.grouped(x)], 1)
        x = F.silu(self.narrow(F.avg_pool2d(F.max_pool2d(x, 3, 1, 1), 2, 1)))
        x = F.adaptive_avg_pool2d(x, 2).flatten(1)
        return self.last(F.leaky_relu(self.hidden(x)))


def prune_at_random(model: nn.Module, keep: float, seed: int) -> nn.Module:
    """Zero weights, whole filters and some batch norm scales; plausible running statistics; all from a seed."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                weight = module.weight
                weight.mul_(torch.rand(weight.shape, generator=draw, dtype=weight.dtype) < keep)
                dead = torch.rand(len(weight), generator=draw) < (1 - keep) / 2
                weight[dead] = 0
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=draw))
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.randn(module.weight.shape, generator=draw))
                module.weight[torch.rand(len(module.weight), generator=draw) < 0.1] = 0
                module.bias.copy_(torch.randn(module.bias.shape, generator=draw))
                module.running_mean.copy_(torch.randn(module.bias.shape, generator=draw) * 0.1)
                module.running_var.copy_(torch.rand(module.bias.shape, generator=draw) + 0.5)
    return model.eval()


def medley(keep: float, seed: int) -> nn.Module:
    """A pruned `Medley` in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return prune_at_random(Medley().double(), keep, seed)
