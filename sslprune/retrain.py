"""Train on the mask that another run found: winning tickets, random re-initialisation and their random controls.

Caron et al. 2020, sections 4.2 and 4.3 (Fig. 3 to 5): a mask found with or without labels is re-trained on labels, from
the rewound weights or from fresh ones, and compared by its accuracy on test images.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sslprune import ranks
from sslprune.config import Found, Recipe
from sslprune.errors import MaskError
from sslprune.evaluate.features import extract_labelled
from sslprune.evaluate.results import Row, row
from sslprune.export import sparse_file
from sslprune.files import write_atomic
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.models.head import POOLED
from sslprune.prune import controls
from sslprune.prune.criteria import convolutions
from sslprune.prune.rewind import State, restore
from sslprune.prune.schedule import Round
from sslprune.run_folder import RunFolder
from sslprune.setting import Setting
from sslprune.zoo.index import Entry
from sslprune.zoo.load import load
from sslprune.zoo.load_masks import load_masks
from sslprune.zoo.locate import locate
from sslprune.zoo.write import write_lines

REWOUND = "rewind.safetensors"
"""In the folder of a family's unpruned network: the state W_k that its ladder rewinds to."""


def retrain(setting: Setting, folder: RunFolder) -> Row:
    """Train the setting's network under its recipe's mask, through the whole schedule, and measure it on test images.

    Args:
        setting: Of a recipe with a mask. Its learner is trained in place; a finished training is read back.
        folder: The run's, which gets the result. The mask's family is looked for in its zoo first, then wherever
            names are.

    Returns:
        The row: task "retrain", top-1 in per cent on the test split.

    Raises:
        UnknownModelError: The family is nowhere at hand.
        MaskError: It is of another recipe, has no rewound weights though they are asked for, or fits another network.
        KeepError: It has no such rung.
    """
    recipe, learner = setting.recipe, setting.learner
    mask, ticket, protocol = ranks.on_first(partial(_given, recipe, folder))
    if ticket is not None:
        restore(learner.backbone, ticket)
    mask.hold_(setting.weights)
    setting.train(learner, mask, Round(0, mask.keep, is_rung=False))
    accuracy, tested = top1(setting)
    measured = row(
        name=recipe.run_name,
        task="retrain",
        data=setting.source.name,
        split="test",
        metric="top1",
        value=accuracy,
        unit="%",
        keep=mask.keep,
        seed=recipe.seed,
        protocol=protocol,
        counts={
            "n_train": len(setting.source.split("train").images[: recipe.limit]),
            "n_test": tested,
            "prunable": mask.prunable,
            "kept": mask.kept,
            "nonzero": sum(int(weight.count_nonzero()) for weight in setting.weights.values()),
        },
        recipe_sha256=recipe.sha256(),
    )
    if ranks.is_first():
        write_atomic(folder.path / "results.jsonl", partial(write_lines, rows=[measured]))
        folder.finish()
    return measured


def _given(recipe: Recipe, folder: RunFolder) -> tuple[Mask, State | None, dict[str, Any]]:
    """The mask, the weights of a ticket, and what is said of both."""
    parent = find_family(recipe.mask, folder.zoo)
    mask = choose(load_masks(parent.folder, keep=recipe.mask.keep), recipe.mask, parent, seed=recipe.seed)
    ticket = rewound(parent) if recipe.mask.init == "ticket" else None
    return mask, ticket, describe(recipe, parent)


def find_family(found: Found, zoo: Path) -> Entry:
    """The unpruned network of the family that found a mask.

    Raises:
        UnknownModelError: It is neither in this zoo nor anywhere that names are looked for.
        MaskError: What has its name was made by another recipe.
    """
    folder = zoo / f"{found.family}-keep100"
    parent = locate(folder if folder.exists() else f"{found.family}-keep100%")
    if parent.manifest.recipe_sha256 != found.sha256:
        raise MaskError(
            f"{parent.folder} was made by the recipe {str(parent.manifest.recipe_sha256)[:8]}, not {found.sha256[:8]}.",
            "Train the family that mask.sha256 names into this zoo, or correct [mask].",
        )
    return parent


def choose(mask: Mask, found: Found, parent: Entry, *, seed: int) -> Mask:
    """The mask that is trained on: as it was found, or its control, over all layers or the first convolutions only.

    Args:
        mask: As the family found it.
        found: What is asked for.
        parent: The family's unpruned network, whose converged weights the control "nonzero" needs.
        seed: Of a control's places.

    Returns:
        A mask with as many weights kept in those layers, and all others dense. ("nonzero" keeps fewer where fewer did
        not converge to zero.)
    """
    pruned = list(mask) if found.first_convs is None else convolutions(mask)[: found.first_convs]
    part = Mask({name: mask[name] for name in pruned})
    match found.control:
        case "permuted":
            part = controls.permute(part, seed=seed)
        case "permuted-layers":
            part = controls.permute_within_layers(part, seed=seed)
        case "nonzero":
            weights = prunable(load(parent.folder))
            converged = {name: weights[name].detach() for name in pruned}
            part = controls.random_among_nonzero(converged, part.keep, seed=seed)
    return Mask({name: part[name] if name in part else torch.ones_like(kept) for name, kept in mask.items()})


def rewound(parent: Entry) -> State:
    """The backbone's state W_k that a family's ladder rewound to.

    Raises:
        MaskError: The family's folder does not have it.
    """
    if REWOUND not in parent.manifest.files:
        raise MaskError(f"{parent.folder} has no {REWOUND}.", "Train the family again, or write mask.init = 'reinit'.")
    state = sparse_file.read(parent.folder / REWOUND).tensors
    return {name: torch.from_numpy(tensor) for name, tensor in state.items()}


def describe(recipe: Recipe, parent: Entry) -> dict[str, Any]:
    """What a row says of the mask and of the training."""
    found, table = recipe.mask, json.loads(recipe.canonical())
    made_by = Recipe.from_toml((parent.folder / "recipe.toml").read_text(encoding="utf-8"), name="family")
    return {
        "criterion": made_by.pretext,
        "family": found.family,
        "keep": found.keep,
        "family_seed": made_by.seed,
        "subset": made_by.subset,
        "rewind": str(made_by.ladder.rewind),
        "init": found.init,
        "control": found.control,
        "first_convs": found.first_convs,
        "training": table["training"],
    }


def top1(setting: Setting) -> tuple[float, int]:
    """Accuracy of the learner's own classifier on the test split, in per cent, and the number of images."""
    learner = setting.learner
    data = setting.source.labelled("test")
    features, labels = extract_labelled(
        learner.backbone, data, stage=POOLED, what="test", pool=None, preprocessing=setting.preprocessing
    )
    head = next(learner.pretext.parameters())
    with torch.no_grad():
        answers = learner.pretext(features[POOLED].to(head)).argmax(1).cpu()
    return float((answers == labels).double().mean() * 100), len(labels)
