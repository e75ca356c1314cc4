"""From a module to a graph: run it once on an image of zeros and write down what torch's dispatcher is asked to do.

One forward pass that computes next to nothing, no code analysis: whatever Python the network is made of, what arrives
at the dispatcher are a few dozen operators, the same for all. An operator not known here becomes an opaque node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sslprune.errors import ArchitectureError
from sslprune.graph.nodes import Graph, Node, Op

_ACTIVATIONS = """
    celu clamp clamp_max clamp_min elu gelu hardsigmoid hardswish hardtanh leaky_relu mish neg relu selu sigmoid silu
    softplus tanh threshold
"""
_POINTWISE = frozenset(_ACTIVATIONS.split())
# What hands a tensor on as it is.
_SAME = frozenset({"alias", "clone", "contiguous", "detach", "dropout", "lift_fresh", "native_dropout", "_to_copy"})

Found = tuple[Op, Mapping[str, Any], str | None, Callable[[Tensor], Tensor] | None]
"""Operation, settings, the owner of its parameters where it has some, the function of a pointwise one."""


def trace(model: nn.Module, size: int | tuple[int, int], *, channels: int = 3) -> Graph:
    """The graph of a network in eval mode; its mode and state are as before.

    Args:
        model: On the CPU; takes float [N,channels,size,size] and returns one tensor [N,...].
        size: Height and width of the image, in pixels; one number if they are equal.
        channels: Channels of the image.

    Raises:
        ArchitectureError: The network does not run on such an image, returns no single tensor, or writes into a tensor
            of which another one is a view.

    >>> from sslprune.models import build
    >>> graph = trace(build("resnet20_cifar"), 32)
    >>> [node.op for node in graph][:4], len(graph.of("conv"))
    (['input', 'conv', 'norm', 'pointwise'], 19)
    """
    parameter = next(model.parameters(), torch.empty(0))
    height, width = _pair(size)
    image = torch.zeros(1, channels, height, width, dtype=parameter.dtype, device=parameter.device)
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        model.eval()
        recorder = _Recorder(model, image)
        # Inference mode hides the operators behind their compositions.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder.modules_followed())
        stack.enter_context(recorder)
        try:
            result = model(image)
        except ArchitectureError:
            raise
        except Exception as error:  # whatever a foreign forward pass raises
            raise ArchitectureError(
                f"{type(model).__name__} does not run on an image of {height} x {width} pixels: {error}",
                "Give the size that the network was made for.",
            ) from error
    if not isinstance(result, Tensor) or recorder.node_of(result) is None:
        raise ArchitectureError(
            f"{type(model).__name__} does not return one tensor that depends on the image.",
            "Take a network with one output.",
        )
    return _needed(Graph(recorder.nodes, str(recorder.node_of(result))))


class _Recorder(TorchDispatchMode):
    """Writes down every operator that a tensor which depends on the image passes through."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: dict[str, Node] = {}
        self._model = model
        self._owners = _owners(model)
        self._at: list[str] = [""]
        # Tensors are told apart by identity, so none may be freed, and its address used again, while we look.
        self._alive: list[Any] = []
        self._names: dict[int, str] = {}
        self._weights: dict[int, str] = {}
        self._views: dict[int, set[int]] = {}
        self._add("input", (), image, {})

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would otherwise import its compiler, a second and 30 MB, only to keep it away from us."""
        return False

    def node_of(self, tensor: object) -> str | None:
        """The node whose result this tensor is, if it depends on the image."""
        return self._names.get(id(tensor)) if isinstance(tensor, Tensor) else None

    @contextmanager
    def modules_followed(self) -> Iterator[None]:
        """While this lasts, every node learns in which module it happened."""
        with ExitStack() as stack:
            for name, module in self._model.named_modules():
                stack.callback(module.register_forward_pre_hook(partial(self._enter, name)).remove)
                stack.callback(module.register_forward_hook(self._leave).remove)
            yield

    def _enter(self, name: str, *_: object) -> None:
        self._at.append(name)

    def _leave(self, *_: object) -> None:
        self._at.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        blank = _blank(name, args) if args and self.node_of(args[0]) else None
        result = func(*args, **kwargs) if blank is None else blank
        self._alive.append((args, kwargs, result))
        if name == "t" and (owner := self._owner(args[0], "weight")):
            self._weights[id(result)] = owner
        read = [found for tensor in _tensors((args, kwargs)) if (found := self.node_of(tensor))]
        if not read:
            return result
        bare = name.removesuffix("_")
        tensor = result[0] if isinstance(result, (tuple, list)) else result
        if not isinstance(tensor, Tensor):
            return result
        if name.endswith("_") and name != bare:
            self._refuse_shared(args[0], name)
        if bare in _SAME and args[0].shape == tensor.shape:
            self._name(tensor, read[0])
            return result
        op, settings, owner, function = self._recognise(bare, func, args, kwargs, tensor)
        if bare == "cat" and op == "concat":
            read = [str(self.node_of(part)) for part in args[0]]
        self._add(op, tuple(read), tensor, settings, owner=owner, function=function)
        if isinstance(result, (tuple, list)):
            for part in result[1:]:
                if isinstance(part, Tensor) and part.numel() and op == "opaque":
                    self._add("opaque", tuple(read), part, settings)
        return result

    def _recognise(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found:
        found = None
        if recogniser := _KNOWN.get(name):
            found = recogniser(self, args, kwargs, out)
        elif name in _POINTWISE:
            found = _pointwise(func, args, kwargs)
        elif name in ("add", "mul"):
            found = self._two(name, func, args, kwargs, out)
        elif name in ("sub", "div") and not isinstance(args[1], Tensor):
            found = _pointwise(func, args, kwargs)
        return found or ("opaque", {"what": name}, None, None)

    def _two(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
        first, second = args[0], args[1]
        if not isinstance(second, Tensor):
            return _pointwise(func, args, kwargs)
        if self.node_of(first) is None or self.node_of(second) is None or kwargs.get("alpha", 1) != 1:
            return None
        same = first.ndim == second.ndim and first.shape[:2] == second.shape[:2] == out.shape[:2]
        return ("add" if name == "add" else "mul", {}, None, None) if same else None

    def _owner(self, tensor: object, role: str) -> str | None:
        """The module whose parameter or buffer `role` this tensor is, if exactly one place owns it."""
        owner, _, own = self._owners.get(id(tensor), "").rpartition(".")
        return owner if own == role else None

    def _add(
        self,
        op: Op,
        inputs: tuple[str, ...],
        result: Tensor,
        settings: Mapping[str, Any],
        *,
        owner: str | None = None,
        function: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        layer = self._at[-1] if owner is None else owner
        name = f"{len(self.nodes)}:{op}" + (f":{layer}" if layer else "")
        self.nodes[name] = Node(name, op, inputs, tuple(result.shape[1:]), layer, settings, function)
        self._name(result, name)

    def _name(self, tensor: Tensor, name: str) -> None:
        self._alive.append(tensor)
        self._names[id(tensor)] = name
        if tensor.numel():
            self._views.setdefault(tensor.untyped_storage().data_ptr(), set()).add(id(tensor))

    def _refuse_shared(self, written: Tensor, name: str) -> None:
        if len(self._views.get(written.untyped_storage().data_ptr(), ())) > 1:
            raise ArchitectureError(
                f"{type(self._model).__name__} writes in place ({name}, in {self._at[-1] or 'forward'}) into a tensor "
                "that another one is a view of.",
                "Such a network cannot be traced; make that operation out of place.",
            )

    def conv(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
        x, weight, _, stride, padding, dilation, transposed, _, groups = args
        owner = self._owner(weight, "weight")
        if owner is None or transposed or weight.ndim != 4 or self.node_of(x) is None:
            return None
        settings = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation)}
        return "conv", {**settings, "groups": groups, "inputs": x.shape[1]}, owner, None

    def linear(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
        x, weight = args[-2:]
        owner = self._weights.get(id(weight))
        if owner is None or x.ndim != 2 or self.node_of(x) is None or kwargs:
            return None
        return "linear", {"inputs": x.shape[1]}, owner, None

    def norm(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
        x, _, _, mean, _, training, _, eps = args[:8]
        owner = self._owner(mean, "running_mean")
        if owner is None or training or self.node_of(x) is None:
            return None
        return "norm", {"eps": eps}, owner, None


def _blank(name: str, args: tuple[Any, ...]) -> Any | None:
    """What an operator gives as far as shapes go, none of it computed or even touched; None where torch must run."""
    x, bare = args[0], name.removesuffix("_")
    if name == "convolution":
        return _convolved(args)
    if name == "_native_batch_norm_legit_no_training" or (name == "native_batch_norm" and not args[5]):
        return x.new_empty(x.shape), x.new_empty(0), x.new_empty(0)
    if bare in _POINTWISE or (bare == "add" and (not isinstance(args[1], Tensor) or args[1].shape == x.shape)):
        # In place there is nothing to do at all.
        return x if bare != name else x.new_empty(x.shape)
    return None


def _convolved(args: tuple[Any, ...]) -> Tensor | None:
    """Room of the shape of a convolution's result, which nobody looks at; None where torch may object."""
    x, weight, _, stride, padding, dilation, transposed, _, groups = args
    if transposed or x.ndim != 4 or x.shape[1] != weight.shape[1] * groups or x.dtype != weight.dtype:
        return None
    room = [x.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)]
    sides = [(left - 1) // step + 1 for left, step in zip(room, stride, strict=True)]
    return x.new_empty(len(x), len(weight), *sides) if min(sides) > 0 else None


def _max_pool(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    kernel, stride, padding, dilation, ceil = _filled(args[1:], ([], [], [0], [1], False))
    pairs = {"kernel": _pair(kernel), "stride": _pair(stride or kernel)}
    # What lies outside of the map never wins a maximum: padding makes no border.
    return (
        "max_pool",
        {**pairs, "margin": _pair(padding), "dilation": _pair(dilation), "ceil_mode": bool(ceil)},
        None,
        None,
    )


def _avg_pool(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    kernel, stride, padding, ceil, counted, divisor = _filled(args[1:], ([], [], [0], False, True, None))
    if divisor is not None:
        return None
    pairs = {"kernel": _pair(kernel), "stride": _pair(stride or kernel), "padding": _pair(padding)}
    return "avg_pool", {**pairs, "ceil": bool(ceil), "count_include_pad": bool(counted)}, None, None


def _adaptive_pool(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    return "adaptive_pool", {"size": tuple(args[1])}, None, None


def _mean(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    x, axes = args[0], args[1] if len(args) > 1 else None
    if x.ndim != 4 or axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        return None
    return "global_pool", {"keepdim": out.ndim == 4}, None, None


def _view(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    x = args[0]
    flat = out.ndim == 2 and x.ndim in (2, 4) and out.shape[1] == x[0].numel()
    return ("flatten", {}, None, None) if flat else None


def _slice(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    axis, start, end, step = _filled(args[1:], (0, None, None, 1))
    if args[0].ndim != 4 or axis % 4 < 2:
        return None
    return "subsample", {"axis": axis % 4, "start": start or 0, "end": end, "step": step}, None, None


def _pad(_: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    x, amounts, value = args[0], list(args[1]), float(args[2]) if len(args) > 2 else 0.0
    amounts += [0] * (8 - len(amounts))
    if x.ndim != 4 or any(amounts[6:]) or min(amounts) < 0:
        return None
    if not any(amounts[:4]):
        return "pad_channels", {"before": amounts[4], "after": amounts[5], "value": value}, None, None
    return ("pad", {"amounts": tuple(amounts[:4]), "value": value}, None, None) if not any(amounts[4:]) else None


def _concat(recorder: _Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Found | None:
    parts, axis = args[0], args[1] if len(args) > 1 else 0
    known = all(recorder.node_of(part) is not None for part in parts)
    return ("concat", {}, None, None) if axis % out.ndim == 1 and known else None


_KNOWN: Mapping[str, Callable[[_Recorder, tuple[Any, ...], dict[str, Any], Tensor], Found | None]] = {
    "convolution": _Recorder.conv,
    "addmm": _Recorder.linear,
    "mm": _Recorder.linear,
    "native_batch_norm": _Recorder.norm,
    "_native_batch_norm_legit_no_training": lambda r, a, k, o: r.norm((*a[:5], False, *a[5:]), k, o),
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "_adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "view": _view,
    "_unsafe_view": _view,
    "reshape": _view,
    "slice": _slice,
    "constant_pad_nd": _pad,
    "cat": _concat,
}


def _pointwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found | None:
    if any(isinstance(argument, Tensor) for argument in (*args[1:], *kwargs.values())):
        return None
    rest, named = args[1:], dict(kwargs)
    name = func._schema.name.partition("::")[2].removesuffix("_")
    # The same operator out of place, so that asking for a value changes none.
    return "pointwise", {"what": name, "arguments": rest}, None, lambda x: func(x.clone(), *rest, **named)


def _owners(model: nn.Module) -> dict[int, str]:
    """Parameters and buffers by identity; those that several modules share belong to none."""
    names: dict[int, list[str]] = {}
    for source in (model.named_parameters, model.named_buffers):
        for name, tensor in source(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(name)
    return {key: found[0] for key, found in names.items() if len(found) == 1}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _filled(given: tuple[Any, ...], default: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*given, *default[len(given) :])


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))


def _needed(graph: Graph) -> Graph:
    """The graph without what the output does not depend on."""
    needed = {graph.output}
    for node in reversed(list(graph)):
        if node.name in needed:
            needed.update(node.inputs)
    kept = {node.name: node for node in graph if node.name in needed or node.op == "input"}
    return Graph(kept, graph.output)
