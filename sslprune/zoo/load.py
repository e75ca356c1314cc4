"""Load a model by name or folder: find it, check its hashes, hand it to the runtime that was asked for.

Importing this needs neither torch nor numpy; what a runtime needs is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from sslprune.errors import (
    ArchitectureError,
    DeviceError,
    MissingExtraError,
    UnknownHeadError,
    UnknownRuntimeError,
)
from sslprune.zoo.index import Entry
from sslprune.zoo.locate import locate
from sslprune.zoo.manifest import MANIFEST, verify

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sslprune.runtime.onnx_model import OnnxModel
    from sslprune.runtime.sparse_model import SparseModel

RUNTIMES = ("torch", "onnx", "sparse")


@overload
def load(
    name: str | Path,
    *,
    keep: float | None = ...,
    arch: str | None = ...,
    data: str | None = ...,
    head: str | None = ...,
    num_classes: int = ...,
    runtime: Literal["torch"] = ...,
    device: str | torch.device = ...,
    verify: bool = ...,
) -> nn.Module: ...


@overload
def load(
    name: str | Path,
    *,
    keep: float | None = ...,
    arch: str | None = ...,
    data: str | None = ...,
    head: str | None = ...,
    runtime: Literal["onnx"],
    device: str | torch.device = ...,
    verify: bool = ...,
) -> OnnxModel: ...


@overload
def load(
    name: str | Path,
    *,
    keep: float | None = ...,
    arch: str | None = ...,
    data: str | None = ...,
    head: str | None = ...,
    runtime: Literal["sparse"],
    device: str | torch.device = ...,
    verify: bool = ...,
) -> SparseModel: ...


def load(
    name: str | Path,
    *,
    keep: float | None = None,
    arch: str | None = None,
    data: str | None = None,
    head: str | None = None,
    num_classes: int = 0,
    runtime: str = "torch",
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> Any:
    """Load a pruned network by name.

    Args:
        name: A name, full or short ("rotnet-resnet20-keep5%", "rotnet"), or a model's folder. What a short one stands
            for goes to the log `sslprune.zoo.locate`, as information.
        keep: The keep rate, a fraction in (0, 1], where the name does not say it; the nearest rung within 20 % is
            taken.
        arch: Architecture, where a short name leaves it open.
        data: Data set, likewise.
        head: Attach the published linear probe of this task ("cifar10"), so that the network classifies at once.
        num_classes: Attach a fresh classifier with so many outputs, for fine-tuning. 0: pooled features.
        runtime: "torch" for a module; "sparse" to run it by the sparse engine, which skips what pruning removed; or
            "onnx" to run `model.onnx` with numpy, pillow and onnxruntime alone.
        device: Where the module goes, or what ONNX Runtime runs on ("cpu", "cuda", "cuda:N"); the engine's is "cpu".
        verify: Check size and sha256 of every file that is read.

    Returns:
        The module, in eval mode, with timm's API (`forward_features`, `forward_head`, `num_features`,
        `reset_classifier`). Its attribute `sslprune` (a `ModelInfo`) has the name that was resolved, keep, mask,
        preprocessing and manifest. With runtime="onnx" an `OnnxModel`: numpy images to numpy features or logits, and
        the same attribute (an `Identity`) without the mask. With runtime="sparse" a `SparseModel`: images to features
        or logits, arrays or tensors, and the same attribute; its `reason` says why it runs dense, if it has to.

    Raises:
        UnknownModelError: No model, or more than one, has this name; the nearest are named.
        KeepError: No rung is near; the rungs are listed.
        UnknownHeadError: No such probe was published; those that were are named.
        UnknownRuntimeError: There is no such runtime.
        MissingExtraError: The runtime's package is not installed.
        IntegrityError: A file is not what the index or manifest says.
        SparseFileError: The weights' file is malformed, or not of this architecture.
        ManifestError: The folder lacks its manifest, config or `model.onnx`, or they say something impossible.
        ArchitectureError: The architecture is not known here.
        DeviceError: ONNX Runtime cannot use the device, or the sparse engine was asked for elsewhere than on the CPU.
    """
    if runtime not in RUNTIMES:
        raise UnknownRuntimeError(f"there is no runtime {runtime!r}.", f"Choose one of: {', '.join(RUNTIMES)}.")
    if num_classes < 0:
        raise ArchitectureError(f"num_classes = {num_classes}.", "Give the number of classes, or 0 for features.")
    if head is not None and num_classes:
        raise ArchitectureError(
            "head and num_classes are both given.", "Take the published probe, or a fresh classifier."
        )
    if runtime != "torch" and num_classes:
        raise ArchitectureError(
            f"the runtime {runtime!r} cannot train, so num_classes means nothing to it.",
            "Give head=TASK for a published probe, or take runtime='torch'.",
        )
    if runtime == "sparse" and str(device).partition(":")[0] != "cpu":
        raise DeviceError(
            f"the sparse engine runs on the CPU, not on {str(device)!r}.", "Leave device out, or take runtime='torch'."
        )
    entry = locate(name, keep=keep, arch=arch, data=data)
    head_path = None if head is None else entry.folder / _published(entry, head)
    heads = [] if head_path is None else [head_path.name]
    if runtime == "onnx":
        from sslprune.zoo import load_onnx

        load_onnx.require_model(entry, listed=verify)
        if verify:
            _verify(entry, [*load_onnx.FILES, *heads])
        return load_onnx.load_onnx(entry, head=head_path, device=str(device))
    try:
        from sslprune.zoo import load_torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the runtime {runtime!r} needs {error.name}, which is not installed.",
            "Run: pip install sslprune (with its dependencies), or take runtime='onnx'.",
        ) from error
    if verify:
        _verify(entry, [*load_torch.files(entry), *heads])
    model = load_torch.load_torch(entry, head=head_path, num_classes=num_classes, device=device)
    if runtime == "sparse":
        from sslprune.runtime.sparse_model import SparseModel

        return SparseModel(model)
    return model


def _verify(entry: Entry, names: Sequence[str]) -> None:
    if entry.manifest_record is not None:
        verify(entry.folder, {MANIFEST: entry.manifest_record}, [MANIFEST])
    verify(entry.folder, entry.manifest.files, names)


def _published(entry: Entry, task: str) -> str:
    from sslprune.models.head_file import head_filename

    if task not in (published := entry.manifest.heads):
        raise UnknownHeadError(
            f"{entry.name} has no published head {task!r}.",
            f"Published: {', '.join(published) or 'none'}. Or fit your own: sslprune.linear_eval(model, train, test).",
        )
    return head_filename(task)
