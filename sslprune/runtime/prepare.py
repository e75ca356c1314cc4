"""Before a network is planned: dead and constant channels go, exactly."""

from __future__ import annotations

import torch
from torch import nn

from sslprune.errors import ArchitectureError
from sslprune.graph.nodes import Graph
from sslprune.graph.shrink import shrink_exactly_
from sslprune.graph.trace import trace
from sslprune.runtime.held import Held
from sslprune.runtime.lower import lower
from sslprune.runtime.ops import Lowered


def prepare(model: nn.Module | Held, size: tuple[int, int]) -> tuple[nn.Module, Graph]:
    """A smaller copy of a network that gives the same outputs, and its graph.

    Args:
        model: Not changed.
        size: Height and width of its images, in pixels.

    Raises:
        ArchitectureError: It cannot be traced.
    """
    held = model if isinstance(model, Held) else Held(model)
    try:
        smaller = held.module()
        shrink_exactly_(smaller, trace(smaller, size))
        return smaller, trace(smaller, size)
    except ArchitectureError:
        # A branch that nobody reads may no longer fit to what is left of its neighbours.
        whole = held.module()
        return whole, trace(whole, size)


def lowered(model: nn.Module | Held, size: tuple[int, int]) -> Lowered:
    """A network's operations for images of one size.

    Raises:
        ArchitectureError: It cannot be traced, or does something that the engine does not know.
    """
    # What inference mode makes cannot be followed by a trace.
    with torch.inference_mode(False):
        return lower(*prepare(model, size), consume=True)
