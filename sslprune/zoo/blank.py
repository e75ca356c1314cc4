"""Networks to be filled from a file: their tensors known before any memory is taken, and no random number drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sslprune import models

_FILLS = frozenset({"add_", "clamp_", "copy_", "erfinv_", "fill_", "mul_", "normal_", "uniform_", "zero_"})


def blueprint(architecture: str, num_classes: int) -> nn.Module:
    """The network on the meta device: names, shapes and dtypes of its tensors, however large, and nothing in them.

    Raises:
        ArchitectureError: The architecture is not known here.
    """
    with torch.device("meta"):
        return models.build(architecture, num_classes=num_classes)


def blank(architecture: str, num_classes: int) -> nn.Module:
    """The network on the CPU, as `models.build` makes it, except that what is in its parameters is undefined.

    Not `blueprint(...).to_empty("cpu")`: that would also leave the buffers undefined that no state dict has, such as
    the position tables of a transformer.

    Raises:
        ArchitectureError: The architecture is not known here.
    """
    with _ParametersLeftAlone(), torch.device("cpu"):
        return models.build(architecture, num_classes=num_classes)


class _ParametersLeftAlone(TorchFunctionMode):
    """In the body, initialising a parameter does nothing: most of a build's time, and all of its memory."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # torch.nn.init gives its functions' arguments by name.
        filled: Tensor | None = args[0] if args else kwargs.get("tensor")
        if isinstance(filled, nn.Parameter) and (
            getattr(func, "__name__", "") in _FILLS or getattr(func, "__module__", "") == "torch.nn.init"
        ):
            return filled
        return func(*args, **kwargs)
