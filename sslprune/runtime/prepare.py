"""Before a network is planned: batch norm folded, dead and constant channels gone, all of it exact."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from sslprune.graph.fold import fold_batch_norm
from sslprune.graph.nodes import Graph
from sslprune.graph.trace import trace
from sslprune.prune.compact import shrink_exactly_
from sslprune.runtime.plan import Plan, make_plan


def prepare(model: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, Graph]:
    """A smaller copy of a network in float64 that gives the same outputs, and its graph.

    In float64 because every rounding of a folded weight is an error that the layers behind it may magnify; the plan
    rounds once.

    Args:
        model: On the CPU. Not changed.
        size: Height and width of its images, in pixels.

    Raises:
        ArchitectureError: It cannot be traced.
    """
    folded = fold_batch_norm(deepcopy(model).double(), size)
    shrink_exactly_(folded, trace(folded, size))
    return folded, trace(folded, size)


def plan_of(model: nn.Module, size: tuple[int, int], *, lanes: int = 1) -> Plan:
    """A network's plan for images of one size, so many at once.

    Raises:
        ArchitectureError: It cannot be traced, or does something that the engine does not know.
    """
    return make_plan(*prepare(model, size), lanes=lanes)
