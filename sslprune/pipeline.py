"""READ THIS FIRST: the whole paper as one short function that calls the rooms in order.

Pruning Convolutional Neural Networks with Self-Supervision (Caron, Morcos, Bojanowski, Mairal, Joulin, 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

from sslprune import ranks
from sslprune.config import Recipe
from sslprune.prune import lottery, schedule
from sslprune.publication import Exam, seal, write_rung
from sslprune.retrain import retrain
from sslprune.run_folder import RunFolder
from sslprune.setting import Options, Setting, prepare
from sslprune.zoo.manifest import Manifest


def run(recipe: Recipe, folder: RunFolder, options: Options = Options()) -> list[Manifest]:
    """Pre-train without labels, prune down the ladder, measure and write every rung (the paper, sections 3 and 4).

    Run again, it goes on where it stopped: killed and resumed gives the files that never killed gives. A finished run
    returns at once. Where torchrun started several processes, each calls this, in `ranks.joined`.

    Args:
        recipe: What to train.
        folder: Where its state, log and results go, and which zoo its models go to.
        options: Device, data folder, progress: what does not decide the result.

    Returns:
        The manifests of the family, the unpruned parent first; none where the recipe re-trains another run's mask.
    """
    if (finished := ranks.on_first(folder.finished)) is not None:
        return finished
    with folder.locked():
        setting = prepare(recipe, folder.path, options)  # images; labels only if the pretext asks for them
        with closing(setting.loop.data):
            if recipe.mask.family:  # winning tickets, random re-initialisation, and their controls
                retrain(setting, folder)
                return []
            exam = Exam.of(setting, options)
            for rung in descend(setting):  # train -> prune -> rewind, again and again
                if ranks.on_first(partial(folder.manifest, rung.round.keep)) is None:
                    write_rung(setting, folder, rung, exam)  # sparse file, manifest, results: all or nothing
            seal(setting, folder, rung, exam)
    return ranks.on_first(folder.manifests)


def descend(setting: Setting) -> Iterator[lottery.Rung]:
    """The paper's descent for this setting; finished rounds are read back at once."""
    ladder = setting.recipe.ladder
    rounds = schedule.rounds(ladder.rungs, ladder.per_round)
    return lottery.descend(
        setting.learner, setting.weights, rounds, setting.train, prune=setting.prune, mode=ladder.mode
    )
