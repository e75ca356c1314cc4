"""A recipe: everything that decides a run's result, as frozen dataclasses <-> TOML <-> canonical text <-> hash.

Device, threads and paths are not in a recipe, because they do not decide what is learned. The canonical text leaves out
fields at their default, so that a field added later does not rename the runs made before it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from sslprune.errors import RecipeError, SslpruneError, StepError, nearest
from sslprune.step import Step

LADDER = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)
"""The rungs of the zoo, as keep rates (ours; the paper does not list its 14 rates)."""


@dataclass(frozen=True)
class Training:
    """One training of the network, from its start to its end.

    Args:
        length: How long the unpruned network trains.
        batch: Images an update, before the pretext multiplies them (RotNet makes four views of each).
        optimizer: "sgd" (momentum 0.9 unless given) or "adam" (weight decay coupled, as L2).
        lr: Peak learning rate.
        momentum: SGD's momentum.
        nesterov: SGD's Nesterov form.
        weight_decay: L2 coefficient, on every parameter.
        schedule: "cosine" to zero, "step" (times `gamma` at each milestone), or "constant".
        milestones: Where the step schedule decays.
        gamma: The step schedule's factor.
        warmup: Linear warm-up from zero.
        padding: Pixels of zero padding before the random crop back to size.
        flip: Random horizontal flips.
        compile: Run the network through `torch.compile`.
        precision: What the network multiplies in on a CPU: "bf16" (autocast; weights, batch norm and loss stay fp32) is
            faster where the CPU has instructions for it. CUDA always takes bf16.
    """

    length: Step
    batch: int = 512
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[Step, ...] = ()
    gamma: float = 0.1
    warmup: Step = Step(0, "ep")
    padding: int = 2
    flip: bool = True
    compile: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class Ladder:
    """How the network is pruned, rung by rung.

    Args:
        rungs: Keep rates to stop at and publish, descending, each in (0, 1).
        per_round: The fraction of the remaining weights that a round removes (the paper, section 3: 0.2); the last
            round of each stretch lands exactly on its rung.
        score: What a weight is worth: "magnitude" (the paper), "lamp", "synflow", "random"; or whole channels,
            "channels-l1", "channels-l2". See `prune.criteria`.
        scope: "global" ranks all prunable weights together (the paper); "layer" ranks each tensor by itself; "erk"
            gives layers Erdos-Renyi-kernel densities.
        guard: Every layer keeps at least so many weights; 0 lets a layer be emptied, as the paper does.
        stem_keep: The keep rate of the first convolution at every rung; 1.0 never prunes it. None (the paper): like any
            other.
        first_convs: Prune the first so many convolutions only; rungs are then keep rates of these. None: all layers.
        mode: "rewind" sets the surviving weights back to W_k (the paper); "warm" goes on from the rung above, which
            costs less and departs from the paper; "pretrained" sets them back to the recipe's `start` (Chen et al.,
            CVPR 2021).
        rewind: k, counted from the start of the first training; of no meaning in mode "pretrained".
        retrain: How long each later round trains. None: to the end of the schedule of the first training, from k
            ("rewind") or from its start (the other modes).
        retrain_lr: Peak learning rate of later rounds in "warm" mode. None: the first training's.
    """

    rungs: tuple[float, ...] = LADDER
    per_round: float = 0.2
    score: Literal["magnitude", "lamp", "synflow", "random", "channels-l1", "channels-l2"] = "magnitude"
    scope: Literal["global", "layer", "erk"] = "global"
    guard: int = 0
    stem_keep: float | None = None
    first_convs: int | None = None
    mode: Literal["rewind", "warm", "pretrained"] = "rewind"
    rewind: Step = Step(1, "ep")
    retrain: Step | None = None
    retrain_lr: float | None = None


@dataclass(frozen=True)
class Transfer:
    """What every rung is measured on.

    Args:
        data: Data sources with labels; empty: the recipe's own.
        pool: Stage maps are average-pooled to `pool` x `pool`.
        floor_seeds: Random networks of the same shape, measured beside the rungs as the floor.
    """

    data: tuple[str, ...] = ()
    pool: int = 4
    floor_seeds: int = 0


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run starts from instead of fresh weights.

    Args:
        source: A file, or "timm:NAME" or "torchvision:NAME" (see `models.foreign`). Empty: fresh weights.
        sha256: Of the file; required with a source, since the weights decide the result.
        prefix: Take only the keys below it.
        rename: Rules "old=new" for modules that are spelled otherwise.
        mean: Channel means that the checkpoint's images were normalised with. Empty: the training images' own.
        std: Channel deviations, likewise.
    """

    source: str = ""
    sha256: str = ""
    prefix: str = ""
    rename: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Found:
    """The mask that another run found, on which a run trains instead of descending a ladder (the paper, section 4.2).

    Args:
        family: The family of the zoo that was made with it, such as "rotnet-resnet20-cifar10-s1". Empty: none.
        sha256: Of the recipe that made the family; required with it, since the mask decides the result.
        keep: The rung whose mask is taken, in (0, 1].
        init: "ticket" starts from the family's rewound weights W_k ("Winning Tickets"), "reinit" from weights drawn by
            the recipe's seed ("Random Reinit"). The head is drawn afresh either way.
        control: Which mask is trained instead, with as many weights: "permuted" has them at random places of the whole
            network (the paper's "Random"), "permuted-layers" at random places of the same layer, "nonzero" at random
            places among what did not converge to zero by itself (the paper's correction on CIFAR-10). Empty: the mask.
        first_convs: Only the first so many convolutions are pruned (the paper, Fig. 4). None: all layers.
    """

    family: str = ""
    sha256: str = ""
    keep: float = 1.0
    init: Literal["ticket", "reinit"] = "reinit"
    control: Literal["", "permuted", "permuted-layers", "nonzero"] = ""
    first_convs: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole run: pretext, network, data, training, ladder, transfer.

    Args:
        name: The run's name, the recipe file's stem.
        pretext: A registered pretext, such as "rotnet".
        arch: A short architecture ("resnet20") or a timm name.
        data: A data source, such as "cifar10" or "folder:PATH".
        training: The training.
        ladder: The pruning.
        transfer: The evaluation.
        start: The checkpoint to start from.
        mask: The mask of another run, to train on instead of descending the ladder.
        task: The pretext's own options, such as `temperature`: numbers and texts that the pretext knows and checks. A
            default that is spelled out counts as a change here, because a recipe does not know the pretexts.
        subset: The part of the training set that is trained on, "images:0.1" (of each class) or "classes:0.1"; for s4l
            the part whose labels are seen. Empty: all. See `data.subsets`.
        seed: Decides every random choice.
        limit: Use only the first so many training images. None: all.
        variant: The variant part of the models' names; empty for none.
        notes: Where the recipe departs from the paper; not part of the hash.
        gpu_hours: What the whole run is estimated to cost; not part of the hash.
    """

    name: str
    pretext: str
    arch: str
    data: str
    training: Training
    ladder: Ladder = field(default_factory=Ladder)
    transfer: Transfer = field(default_factory=Transfer)
    start: Start = field(default_factory=Start)
    mask: Found = field(default_factory=Found)
    task: Mapping[str, int | float | str] = field(default_factory=dict)
    subset: str = ""
    seed: int = 0
    limit: int | None = None
    variant: str = ""
    notes: str = ""
    gpu_hours: float | None = None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a recipe file, or a bundled recipe by its name.

        Raises:
            RecipeError: There is no such recipe, or it has a wrong field or value.
        """
        path = Path(name_or_path)
        if path.suffix != ".toml" or not path.exists():
            path = _bundled(str(name_or_path))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}", "Give a TOML file that exists.") from error
        return cls.from_toml(text, name=path.stem)

    @classmethod
    def from_toml(cls, text: str, *, name: str) -> Self:
        """Read a recipe's TOML text; every unknown field is an error that names its neighbours."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"recipe {name} is not TOML: {error}", "Correct that line.") from error
        built = _build(cls, {"name": name, **table}, where=name)
        assert isinstance(built, cls)
        return built

    def canonical(self) -> str:
        """The text that is hashed: JSON, sorted, without defaults, `name`, `notes` and `gpu_hours`."""
        table = _plain(self)
        for cosmetic in ("name", "notes", "gpu_hours"):
            table.pop(cosmetic, None)
        return json.dumps(table, sort_keys=True, separators=(",", ":"))

    def sha256(self) -> str:
        """The recipe's identity, 64 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def to_toml(self) -> str:
        """The recipe as TOML, without defaults; reading it again gives an equal recipe."""
        import tomli_w

        return tomli_w.dumps({key: value for key, value in _plain(self).items() if key != "name"})

    @property
    def run_name(self) -> str:
        """The run folder's name, `{recipe}-{hash8}`."""
        return f"{self.name}-{self.sha256()[:8]}"


def bundled_recipes() -> tuple[str, ...]:
    """The names of the recipes that ship with the package."""
    folder = resources.files("sslprune") / "recipes"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")))


def _bundled(name: str) -> Path:
    known = bundled_recipes()
    stem = Path(name).name.removesuffix(".toml")
    if stem not in known:
        raise RecipeError(
            f"there is no recipe {name!r}.", f"Give a .toml file, or one of the bundled: {nearest(stem, known)}."
        )
    return Path(str(resources.files("sslprune") / "recipes" / f"{stem}.toml"))


def _build(kind: Any, value: Any, *, where: str) -> Any:
    """Turn TOML values into the annotated type, refusing what does not fit."""
    if isinstance(kind, type) and is_dataclass(kind) and kind is not Step:
        if not isinstance(value, dict):
            raise RecipeError(f"{where} must be a table, not {value!r}.", f"Write it as [{where.split('.')[-1]}].")
        hints = get_type_hints(kind)
        known = {item.name: item for item in fields(kind)}
        for key in value:
            if key not in known:
                raise RecipeError(f"{where} has an unknown field {key!r}.", f"Did you mean: {nearest(key, known)}?")
        for key, item in known.items():
            if key not in value and item.default is MISSING and item.default_factory is MISSING:
                raise RecipeError(f"{where} lacks the field {key!r}.", "Add it to the recipe.")
        make: Any = kind
        return make(**{key: _build(hints[key], entry, where=f"{where}.{key}") for key, entry in value.items()})
    return _value(kind, value, where=where)


def _value(kind: Any, value: Any, *, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Step:
        try:
            return Step.parse(value)
        except StepError as error:
            raise RecipeError(f"{where}: {error.problem}", error.hint) from error
    if origin is Literal:
        if value in inner:
            return value
        raise RecipeError(f"{where} = {value!r} is not known.", f"Choose one of: {', '.join(map(str, inner))}.")
    if origin is Mapping:
        if not isinstance(value, dict) or not all(type(entry) in (int, float, str) for entry in value.values()):
            raise RecipeError(f"{where} must be a table of numbers and texts.", "Correct the table in the recipe.")
        return dict(value)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(inner[0], entry, where=where) for entry in value)
    if type(None) in inner:
        return _value(next(part for part in inner if part is not type(None)), value, where=where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, str, bool) and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", str(kind)) if origin is None else "list"
    raise RecipeError(f"{where} = {value!r} is not of type {wanted}.", "Correct the value in the recipe.")


def _plain(value: Any) -> Any:
    """Dataclasses as plain tables, without the fields that are at their default."""
    if isinstance(value, Step):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        # Equal recipes have equal texts: 1.0 and 1 are equal.
        return {
            key: int(entry) if isinstance(entry, float) and entry == int(entry) else entry
            for key, entry in value.items()
        }
    if not is_dataclass(value):
        return value
    table = {}
    hints = get_type_hints(type(value))
    for item in fields(value):
        entry = getattr(value, item.name)
        if isinstance(entry, int) and float in (hints[item.name], *get_args(hints[item.name])):
            entry = float(entry)  # equal recipes have equal texts, whether Python code says 1 or 1.0
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if entry != default and entry is not None:
            table[item.name] = _plain(entry)
    return table


def _check(recipe: Recipe) -> None:
    ladder, training, start, mask = recipe.ladder, recipe.training, recipe.start, recipe.mask
    rungs = ladder.rungs
    positive = 0 < training.lr < math.inf and training.batch > 0 and training.length.count > 0
    retrain_positive = ladder.retrain is None or ladder.retrain.count > 0
    one_by_one = ladder.score in ("magnitude", "random")
    plain = (ladder.guard, ladder.stem_keep, ladder.first_convs) == (0, None, None)
    normalised = (len(start.mean), len(start.std)) in ((0, 0), (3, 3)) and all(
        0 < value < math.inf for value in start.std
    )
    numbers = [value for value in recipe.task.values() if not isinstance(value, str)]
    retrain_lr_positive = ladder.retrain_lr is None or 0 < ladder.retrain_lr < math.inf
    laws: list[tuple[bool, str]] = [
        (re.fullmatch(r"[a-z0-9][a-z0-9._-]*", recipe.name) is not None, "name is lower case, digits, dots, dashes"),
        (re.fullmatch(r"[a-z0-9._-]*", recipe.variant) is not None, "variant is lower case, digits, dots, dashes"),
        (0 <= recipe.seed < 2**31, "seed is at least 0 and below 2**31"),
        (all(0 < keep < 1 for keep in rungs), "ladder.rungs are fractions between 0 and 1"),
        (list(rungs) == sorted(set(rungs), reverse=True), "ladder.rungs descend"),
        (0 < ladder.per_round < 1, "ladder.per_round is a fraction between 0 and 1"),
        (positive, "training.lr, .batch and .length are positive"),
        (0 <= training.momentum < 1, "training.momentum is at least 0 and below 1"),
        (training.momentum > 0 or not training.nesterov, "training.nesterov goes with training.momentum above 0"),
        (0 <= training.weight_decay < math.inf, "training.weight_decay is not negative"),
        (0 < training.gamma < math.inf, "training.gamma is positive"),
        (training.padding >= 0, "training.padding is not negative"),
        (training.schedule == "step" or not training.milestones, "training.milestones go with schedule = 'step'"),
        (all(-(2**53) <= value <= 2**53 for value in numbers), "the numbers of [task] lie within 2**53 around 0"),
        (recipe.limit is None or recipe.limit > 0, "limit is positive"),
        (recipe.transfer.pool > 0, "transfer.pool is positive"),
        (recipe.transfer.floor_seeds >= 0, "transfer.floor_seeds is not negative"),
        (retrain_positive and retrain_lr_positive, "ladder.retrain and .retrain_lr are positive"),
        (ladder.mode == "warm" or ladder.retrain_lr is None, "ladder.retrain_lr goes with mode = 'warm'"),
        (one_by_one or ladder.scope == "global", "ladder.scope 'layer' and 'erk' go with 'magnitude' and 'random'"),
        (plain or "channels" not in ladder.score, "ladder.guard, .stem_keep and .first_convs go with single weights"),
        (ladder.guard >= 0, "ladder.guard is not negative"),
        (ladder.stem_keep is None or 0 < ladder.stem_keep <= 1, "ladder.stem_keep is above 0 and at most 1"),
        (ladder.first_convs is None or ladder.first_convs > 0, "ladder.first_convs is positive"),
        (ladder.first_convs != 1 or ladder.stem_keep is None, "ladder.first_convs = 1 goes without ladder.stem_keep"),
        (ladder.mode != "pretrained" or start.source != "", "ladder.mode 'pretrained' goes with a [start]"),
        (start.source != "" or start == Start(), "the fields of [start] go with start.source"),
        (not start.source or re.fullmatch(r"[0-9a-f]{64}", start.sha256) is not None, "start.sha256 is 64 hex digits"),
        (mask.family != "" or mask == Found(), "the fields of [mask] go with mask.family"),
        (not mask.family or re.fullmatch(r"[0-9a-f]{64}", mask.sha256) is not None, "mask.sha256 is 64 hex digits"),
        (0 < mask.keep <= 1, "mask.keep is above 0 and at most 1"),
        (mask.first_convs is None or mask.first_convs > 0, "mask.first_convs is positive"),
        (not mask.family or ladder == Ladder(), "a recipe with a [mask] has no [ladder]"),
        (not mask.family or not start.source, "a recipe with a [mask] has no [start]"),
        (not mask.family or recipe.pretext == "labels", "a recipe with a [mask] trains the pretext 'labels'"),
        (not mask.control or mask.init == "reinit", "mask.control goes with mask.init = 'reinit'"),
        (recipe.gpu_hours is None or 0 < recipe.gpu_hours < math.inf, "gpu_hours are positive"),
        (normalised, "start.mean and .std are three numbers each, .std above 0, or left out"),
    ]
    for holds, law in laws:
        if not holds:
            raise RecipeError(f"recipe {recipe.name!r}: {law}, which does not hold here.", "Correct the recipe.")


__all__ = [
    "LADDER",
    "Found",
    "Ladder",
    "Recipe",
    "SslpruneError",
    "Start",
    "Step",
    "Training",
    "Transfer",
    "bundled_recipes",
]
