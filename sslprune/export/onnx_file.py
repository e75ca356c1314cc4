"""Write a network as one small ONNX file: exported by torch, batch norm folded, cleaned, packed, checked."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError
from sslprune.export.onnx_clean import clean
from sslprune.export.onnx_extra import onnx_package, require_writing
from sslprune.export.onnx_pack import Values, pack
from sslprune.files import refuse_existing, write_atomic
from sslprune.graph.fold import fold_batch_norm

Output = Callable[[nn.Module, Tensor], Tensor]
"""From a network and a batch [N,3,H,W] to one of the file's outputs, [N,...]."""

INPUT = "input"
OPSET = 20
_SAME = 1e-3
"""Relative difference up to which a folded network counts as the same; rounding alone gives about 1e-6."""


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """What the network itself returns."""
    return model(x)  # type: ignore[no-any-return]


FEATURES: Mapping[str, Output] = {"features": forward}


def write_onnx(
    model: nn.Module,
    path: Path,
    *,
    size: int,
    metadata: Mapping[str, str],
    outputs: Mapping[str, Output] = FEATURES,
    values: Values = "fp32",
    force: bool = False,
) -> int:
    """Write a network as ONNX (opset 20) that shrinks with its zeros, with a batch of any length.

    The same network gives the same bytes, and nothing of this machine (paths, stack traces) is in them.

    Args:
        model: Float32; its mode and weights stay as they are, the file has its eval mode.
        path: The destination, replaced all or nothing.
        size: Height and width of the images, in pixels.
        metadata: The file's `metadata_props`.
        outputs: Name -> what it is, in the file's order.
        values: "fp32": weights are those of the folded network bit for bit; "fp16": rounded to the nearest half.
        force: Replace an existing file.

    Returns:
        The bytes that the same file takes with its weights dense in float32.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        OutputExistsError: The file exists and `force` is not set.
        ArchitectureError: torch cannot export the network.
        SparseFileError: A weight is too large for fp16.
        StorageError: The disk is full or not writable.
    """
    refuse_existing(path, force=force)
    dense = export(model, size=size, metadata=metadata, outputs=outputs)
    packed = pack(dense, values=values)
    onnx_package().checker.check_model(packed, full_check=True)
    write_atomic(path, packed.SerializeToString(deterministic=True))
    return int(dense.ByteSize())


def export(model: nn.Module, *, size: int, metadata: Mapping[str, str], outputs: Mapping[str, Output]) -> Any:
    """The `onnx.ModelProto` that `write_onnx` packs; its initialisers have the names of the state dict."""
    require_writing()
    with torch.inference_mode(False):  # in which torch traces other operators
        network = _Outputs(_folded(model, size, outputs), outputs)
        program = _exported(network, torch.zeros(2, 3, size, size), list(outputs))
    return clean(program.model_proto, prefix="net.", metadata=metadata)


class _Outputs(nn.Module):
    """One network, several outputs; what they have in common is computed once (the exporter merges equal nodes)."""

    def __init__(self, net: nn.Module, outputs: Mapping[str, Output]) -> None:
        super().__init__()
        self.net = net
        self._functions = tuple(outputs.values())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(self.net, x) for function in self._functions)


def _folded(model: nn.Module, size: int, outputs: Mapping[str, Output]) -> nn.Module:
    """The network without batch norm; with it where folding would change an output, as one before the batch norm."""
    plain = _plain(model)
    try:
        folded = fold_batch_norm(plain, size)
    except ArchitectureError:
        return plain
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for function in outputs.values():
            expected, found = function(plain, x), function(folded, x)
            if (found - expected).abs().max() > _SAME * expected.abs().max():
                return plain
    return folded


def _plain(model: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode, its tensors in the usual order in memory: the exporter writes down any other."""
    copy = deepcopy(model).cpu().eval()
    with torch.no_grad():
        for tensor in (*copy.parameters(), *copy.buffers()):
            tensor.data = tensor.clone(memory_format=torch.contiguous_format)
    return copy


def _exported(network: nn.Module, example: Tensor, names: list[str]) -> Any:
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            return torch.onnx.export(
                network.eval(),
                (example,),
                input_names=[INPUT],
                output_names=names,
                opset_version=OPSET,
                dynamic_shapes=({0: batch},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever a foreign forward pass, or one of the exporter's many stages, raises
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ArchitectureError(
            f"torch cannot export this network to ONNX: {reason}", "Export it as safetensors or dense instead."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress and its libraries' deprecations; nobody asked."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
