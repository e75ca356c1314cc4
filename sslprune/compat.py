"""One cure for one accident: a CPU-only torch beside a torchvision that was built for CUDA.

Such a torchvision cannot load its C++ library, and then even `import torchvision`, and with it `import timm`, dies with
`operator torchvision::nms does not exist`. The operator is only named at import, never called by a classifier, so
declaring its schema is enough.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import torch

_LOCK = threading.Lock()
# A declaration lives as long as its Library object.
_declared: list[torch.library.Library] = []


def patch_torchvision() -> bool:
    """Make `import torchvision` work where its compiled operators cannot be loaded; call it before that import.

    Does nothing where torchvision is absent, already imported, or healthy. Calling it again changes nothing.

    Returns:
        Whether the operators stand declared by this function: True on a broken install, False on a healthy one.

    >>> patch_torchvision() == patch_torchvision()
    True
    """
    with _LOCK:
        if _declared:
            return True
        if "torchvision" in sys.modules or hasattr(torch.ops.torchvision, "nms") or _operators_load():
            return False
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        return True


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for compiled in sorted(Path(spec.origin).parent.glob("_C*")):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            continue
        return True
    return False
