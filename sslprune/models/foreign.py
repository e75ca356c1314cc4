"""Checkpoints from outside as networks: tensors only, renamed by explicit rules, and then every key must fit.

Nothing is fetched: a name stands for weights that timm or torchvision has put on this disk before.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sslprune.compat import patch_torchvision
from sslprune.errors import ArchitectureError, CheckpointError, nearest
from sslprune.files import sha256 as sha256_of
from sslprune.models.factory import build

_PICKLED = (".pth", ".th", ".pt", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."
"""What DataParallel and DistributedDataParallel put before every key."""

_COUNTER = "num_batches_tracked"
"""Of batch norm; torch before 0.4.1 had none, and only a momentum of None ever reads it."""

_INDICES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Foreign:
    """A network whose weights came from outside.

    Attributes:
        model: On the CPU in eval mode, with the classifier that the checkpoint has, if any.
        architecture: The timm name that `models.build` makes the network from.
        path: The file that was read.
        sha256: Of that file.
        set_aside: The keys that a given prefix left out, sorted.
    """

    model: nn.Module
    architecture: str
    path: Path
    sha256: str
    set_aside: tuple[str, ...]


def load_foreign(
    source: str | Path,
    arch: str | None = None,
    *,
    prefix: str = "",
    rename: Sequence[str] = (),
    sha256: str | None = None,
) -> Foreign:
    """Read a checkpoint that this library did not write.

    Args:
        source: A `.safetensors`, `.pth`, `.th`, `.pt`, `.bin` or `.tar` file; or "timm:NAME" or "torchvision:NAME" for
            weights that are on this disk already.
        arch: The timm name of the network; needed for files, and by default the name's own for names.
        prefix: Take the keys below it and set the others aside, such as "encoder_q." of MoCo.
        rename: Rules "old=new": a key that begins with the module `old` begins with `new` instead, such as "linear=fc".
        sha256: What the file must have.

    Returns:
        The network. Wrappers ("state_dict", "model_state_dict", "model") and the "module." before every key are taken
        off first, then `prefix`, then `rename` is applied; then the keys must be exactly the network's, except for
        batch norm's counters, which older checkpoints lack.

    Raises:
        CheckpointError: There is no such file, it is not of tensors alone, or it has another sha256; or a key is
            missing, left over, or of another shape.
        ArchitectureError: The architecture is not known, or not given.
    """
    path, known = resolve(source)
    if sha256 is not None and sha256_of(path) != sha256:
        raise CheckpointError(
            f"{path} has sha256 {sha256_of(path)}, not {sha256}.", "Get the file again, or correct the recipe's start."
        )
    architecture = arch or known
    if architecture is None:
        raise ArchitectureError(f"{path} does not say which network it is of.", "Say it: --arch resnet20.")
    state, set_aside = renamed(read_state(path), prefix=prefix, rename=rename, where=str(path))
    model, state = _network(architecture, state, published=arch is None or arch == known)
    _fill_(model, state, where=f"{path} as {architecture}")
    return Foreign(model.eval(), architecture, path, sha256_of(path), set_aside)


def is_foreign(source: str | Path) -> bool:
    """Whether a source is a checkpoint of another's: one of the names or endings that `load_foreign` takes.

    >>> is_foreign("timm:resnet18"), is_foreign("resnet20.th"), is_foreign("rotnet-resnet20-keep100%")
    (True, True, False)
    """
    return str(source).startswith(("timm:", "torchvision:")) or Path(source).suffix in (".safetensors", *_PICKLED)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by key, on the CPU.

    Raises:
        CheckpointError: It is missing, is not such a file, or would run code when read.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}.", "Give a file that exists.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of tensors alone: {_what_is_refused(error)}.",
            "It is not read, because it could run any code. Write its state dict anew where it is trusted.",
        ) from error
    except Exception as error:  # torch and safetensors raise a dozen kinds for a broken file
        raise CheckpointError(f"{path} cannot be read: {error}", "Get the file again.") from error
    return _unwrapped(loaded, path)


def renamed(
    state: Mapping[str, Tensor], *, prefix: str = "", rename: Sequence[str] = (), where: str = "the checkpoint"
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Apply the rules: "module." off if every key has it, then `prefix`, then `rename`.

    Returns:
        The tensors by their new keys, and the keys that `prefix` set aside.

    Raises:
        CheckpointError: No key has the prefix, a rule is not "old=new" or fits no key, or two keys become one.

    >>> renamed({"module.linear.weight": torch.zeros(2)}, rename=["linear=fc"])[0].keys()
    dict_keys(['fc.weight'])
    """
    found = dict(state)
    if found and all(key.startswith(_PARALLEL) for key in found):
        found = {key.removeprefix(_PARALLEL): tensor for key, tensor in found.items()}
    below = {key: tensor for key, tensor in found.items() if key.startswith(prefix)}
    if not below:
        raise CheckpointError(f"no key of {where} begins with {prefix!r}.", f"They begin so: {_begins(found)}.")
    set_aside = tuple(sorted(found.keys() - below.keys()))
    found = {key.removeprefix(prefix): tensor for key, tensor in below.items()}
    for rule in rename:
        old, equals, new = rule.partition("=")
        touched = [key for key in found if key == old or key.startswith(f"{old}.")]
        if not (old and equals and new and touched):
            raise CheckpointError(
                f"the rule {rule!r} renames no key of {where}.", f"Write old=new; they begin so: {_begins(found)}."
            )
        keys = [new + key.removeprefix(old) if key in touched else key for key in found]
        if len(set(keys)) < len(keys):
            raise CheckpointError(f"the rule {rule!r} makes one key of two in {where}.", "Choose another new name.")
        found = dict(zip(keys, found.values(), strict=True))
    return found, set_aside


def _begins(state: Mapping[str, Tensor]) -> str:
    """The modules that keys begin with, for a message."""
    return ", ".join(sorted({key.partition(".")[0] for key in state})[:8])


def resolve(source: str | Path) -> tuple[Path, str | None]:
    """The file that a source stands for, and the timm name of its network where the source says it.

    Raises:
        CheckpointError: The weights of a name are not on this disk; the message says where they were looked for.
        ArchitectureError: timm or torchvision has no such name.
    """
    kind, colon, name = str(source).partition(":")
    if colon and kind == "timm":
        return _of_timm(name), name.partition(".")[0]
    if colon and kind == "torchvision":
        return _of_torchvision(name), name
    return Path(source).expanduser(), None


def _of_timm(name: str) -> Path:
    from sslprune.models.timm_api import get_pretrained_cfg, is_model, list_models

    config = get_pretrained_cfg(name) if is_model(name.partition(".")[0]) else None
    if config is None:
        raise ArchitectureError(f"timm has no {name!r}.", f"Nearest: {nearest(name, list_models(pretrained=True))}.")
    looked: list[str] = []
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for filename in (config.hf_hub_filename, *_INDICES):
            found = try_to_load_from_cache(config.hf_hub_id, filename) if filename else None
            if isinstance(found, str):
                return Path(found)
        looked.append(f"{config.hf_hub_id} in the Hugging Face cache")
    if config.url:
        return _of_torch_hub(str(config.url), name, looked)
    raise _not_here(name, looked)


def _of_torchvision(name: str) -> Path:
    patch_torchvision()
    from torchvision import models

    if name not in (known := models.list_models()):
        raise ArchitectureError(f"torchvision has no {name!r}.", f"Nearest: {nearest(name, known)}.")
    return _of_torch_hub(models.get_model_weights(name).DEFAULT.url, name, [])


def _of_torch_hub(url: str, name: str, looked: list[str]) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    raise _not_here(name, [*looked, str(path)])


def _not_here(name: str, looked: list[str]) -> CheckpointError:
    return CheckpointError(
        f"the weights of {name!r} are not on this disk: looked for {' and '.join(looked) or 'none, as it has none'}.",
        "Fetch them with timm or torchvision once, or give a file.",
    )


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not named tensors.", "Save its state dict.")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} has {key!r}, a {type(value).__name__}, among its tensors.",
                f"Save its state dict alone, or wrapped as one of: {', '.join(_WRAPPERS)}.",
            )
    return dict(loaded)


def _what_is_refused(error: pickle.UnpicklingError) -> str:
    """The name that the pickle wanted to call, out of torch's long message."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"it names {found[1]}" if found else "its pickle has more in it than tensors"


def _network(architecture: str, state: dict[str, Tensor], *, published: bool) -> tuple[nn.Module, dict[str, Tensor]]:
    """A fresh network with as many classes as the checkpoint has, and its tensors as that network spells them."""
    bare = build(architecture, num_classes=2, seed=0)
    classifier = _classifier_name(bare)
    weight = state.get(f"{classifier}.weight")
    model = build(architecture, num_classes=0 if weight is None else len(weight), seed=0)
    if published and (respelled := _timm_filter(model)) is not None:
        state = dict(respelled(state, model))
    return model, state


def _classifier_name(model: Any) -> str:
    name = (getattr(model, "pretrained_cfg", None) or {}).get("classifier", "fc")
    return str(name[0] if isinstance(name, list | tuple) else name)


def _timm_filter(model: nn.Module) -> Callable[..., Mapping[str, Tensor]] | None:
    """timm's own respelling of checkpoints that were published for the network, where its module has one."""
    import importlib

    module = importlib.import_module(type(model).__module__)
    return cast("Callable[..., Mapping[str, Tensor]] | None", getattr(module, "checkpoint_filter_fn", None))


@torch.no_grad()
def _fill_(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith(_COUNTER)]
    left_over = [key for key in state if key not in own]
    if missing or left_over:
        said = [f"lacks {json.dumps(missing[0])}"] if missing else []
        said += [f"has {json.dumps(left_over[0])} left over"] if left_over else []
        others = len(missing) + len(left_over) - len(said)
        near = nearest(left_over[0], missing or own) if left_over else nearest(missing[0], state)
        raise CheckpointError(
            f"{where}: the checkpoint {' and '.join(said)}{f' (and {others} more)' if others else ''}.",
            f"Nearest: {near}. Give rename=old=new, prefix=..., or another architecture.",
        )
    for key, tensor in own.items():
        if key not in state:
            continue
        if state[key].shape != tensor.shape:
            raise CheckpointError(
                f"{where}: {key} has shape {tuple(state[key].shape)}, the network {tuple(tensor.shape)}.",
                "Choose the architecture that the checkpoint is of.",
            )
        if not bool(state[key].isfinite().all()):
            raise CheckpointError(f"{where}: {key} is not finite.", "Get the file again.")
    model.load_state_dict(dict(state), strict=False)
