"""The claims of Caron et al. 2020 (arXiv 2001.03554): what the paper states, what we compare, and what we expect of it.

Margins and keep rates were written before any of our rows of several seeds was there; do not fit them to results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sslprune.report import contrasts
from sslprune.report.contrasts import LEARNED
from sslprune.report.sample import Contrast
from sslprune.report.tables import Tables
from sslprune.report.verdict import Expectation, Verdict, judge, more, not_less, not_more, same


@dataclass(frozen=True)
class Claim:
    """A claim and how it is tested.

    Attributes:
        name: Short and unique, such as "1a".
        letter: Of the list of claims that can be checked at CIFAR-10 scale, "(a)" to "(g)"; empty for none.
        title: In a few words.
        statement: What the paper states.
        by: Whose statement it is: "paper", or "ours" for an explanation or reading that the paper does not state.
        figure: The figure that shows it, "fig1" to "fig6".
        test: What is compared.
        expectation: What is expected of each difference.
        compare: The differences, from the tables.
        lacking: Which rows the test needs.
    """

    name: str
    letter: str
    title: str
    statement: str
    figure: str
    test: str
    expectation: Expectation
    compare: Callable[[Tables], list[Contrast]]
    lacking: str
    by: str = "paper"


@dataclass(frozen=True)
class Finding:
    """A claim after the test.

    Attributes:
        claim: The claim.
        verdict: What our rows say.
        why: How the verdict came about.
        contrasts: All differences, those beside the verdict too.
    """

    claim: Claim
    verdict: Verdict
    why: str
    contrasts: tuple[Contrast, ...]


def examine(claim: Claim, tables: Tables) -> Finding:
    """Hold one claim against the tables."""
    found = claim.compare(tables)
    verdict, why = judge(claim.expectation, found)
    if why == "no rows":
        why = f"no rows: it needs {claim.lacking}"
    return Finding(claim, verdict, why, tuple(found))


PRETEXTS = ("rotnet", "exemplar", "npid")
"""Whose frozen features the paper measures."""

_LADDER = "frozen-feature rows of a pruned family of {} and of its unpruned network"
_MASKS = "re-training rows of {} at 5 % kept or less"

CLAIMS = (
    Claim(
        "1a",
        "(c)",
        "Features survive down to 10 % of the weights",
        "Pruning during pre-training keeps frozen-feature transfer (VOC07, Places205, ImageNet linear) intact down to "
        "about 10 % of the weights.",
        "fig1",
        "Every rung from 10 % up minus the unpruned network: linear classifier, last stage as in the paper (best stage "
        "beside).",
        not_less(2.0),
        lambda tables: contrasts.pruned_features(tables, PRETEXTS, lambda keep: keep >= 0.095),
        _LADDER.format("RotNet, Exemplar or NPID"),
    ),
    Claim(
        "1b",
        "(c)",
        "RotNet and Exemplar features improve slightly with pruning",
        "RotNet and Exemplar features even improve slightly with pruning.",
        "fig1",
        "The mean of all rungs from 10 % up minus the unpruned network: linear classifier, last stage (best stage "
        "beside).",
        more(0.5),
        lambda tables: contrasts.mean_of_pruned_features(tables, LEARNED, lambda keep: 0.095 <= keep < 1),
        _LADDER.format("RotNet or Exemplar"),
    ),
    Claim(
        "1c",
        "(c)",
        "NPID features stay constant at moderate rates",
        "NPID, the best method, stays constant at moderate rates.",
        "fig1",
        "Every rung from 20 % up minus the unpruned network: linear classifier, last stage (best stage beside).",
        same(2.0),
        lambda tables: contrasts.pruned_features(tables, ("npid",), lambda keep: keep >= contrasts.MODERATE),
        _LADDER.format("NPID"),
    ),
    Claim(
        "1d",
        "(c)",
        "Below 5 % features get clearly worse",
        "Below 5 % of the weights everything drops significantly.",
        "fig1",
        "The unpruned network minus every rung below 5 %: linear classifier, last stage (best stage beside).",
        more(1.0),
        lambda tables: contrasts.pruned_features(tables, PRETEXTS, lambda keep: keep < 0.045, sign=-1.0),
        _LADDER.format("RotNet, Exemplar or NPID below 5 %"),
    ),
    Claim(
        "2",
        "(d)",
        "Prune before the transfer, not during it",
        "Fine-tuning an already pruned pre-trained network on VOC07 beats pruning while fine-tuning on VOC07.",
        "fig2",
        "Pruned before minus pruned during fine-tuning, at the same keep rate.",
        more(1.0),
        contrasts.before_minus_during,
        "fine-tuning rows pruned before and during, at the same keep rate",
    ),
    Claim(
        "3a",
        "(a)",
        "From random re-initialisation, masks found without labels match supervised ones",
        "Re-trained on labels from a random re-init, self-supervised masks match supervised masks.",
        "fig3",
        "RotNet and Exemplar masks minus label masks, all re-initialised, at 5 % and below.",
        same(2.0),
        lambda tables: contrasts.masks_against_labels(tables, "reinit"),
        _MASKS.format("re-initialised label and RotNet or Exemplar masks"),
    ),
    Claim(
        "3b",
        "(a)",
        "Re-initialised masks are far above random ones",
        "The paper states it of winning tickets (3f); its Fig. 3 draws the re-initialised masks over the same random "
        "masks. Asking the same of them is our reading.",
        "fig3",
        "Label, RotNet and Exemplar masks minus permuted ones, all re-initialised, at 5 % and below (minus the "
        "corrected random masks beside).",
        more(5.0),
        lambda tables: contrasts.above_random(tables, ("labels", *LEARNED), "reinit"),
        _MASKS.format("re-initialised masks and permuted ones"),
        by="ours",
    ),
    Claim(
        "3c",
        "(b)",
        "Supervised winning tickets win",
        'From "winning ticket" (rewound) weights, supervised tickets win clearly.',
        "fig3",
        "Label tickets minus RotNet and Exemplar tickets, at 5 % and below.",
        more(1.0),
        lambda tables: contrasts.labels_against_masks(tables, "ticket"),
        _MASKS.format("label tickets and RotNet or Exemplar tickets"),
    ),
    Claim(
        "3d",
        "(b)",
        "Supervised tickets gain over their own re-initialisation",
        "The paper states that supervised tickets win clearly, against tickets found without labels; that they also "
        "beat their own re-initialisation is our reading of the same sentence.",
        "fig3",
        "Label tickets minus the same masks re-initialised, at 5 % and below.",
        more(1.0),
        lambda tables: contrasts.ticket_minus_reinit(tables, ("labels",)),
        _MASKS.format("label masks from both initialisations"),
        by="ours",
    ),
    Claim(
        "3e",
        "(b)",
        "Tickets found without labels gain little or nothing",
        "Self-supervised tickets give only a very slight or no gain over random re-init.",
        "fig3",
        "RotNet and Exemplar tickets minus the same masks re-initialised, at 5 % and below.",
        not_more(2.0),
        lambda tables: contrasts.ticket_minus_reinit(tables, LEARNED),
        _MASKS.format("RotNet or Exemplar masks from both initialisations"),
    ),
    Claim(
        "3f",
        "(a)",
        "Tickets found without labels stay far above random pruning",
        "Self-supervised tickets stay far above random pruning.",
        "fig3",
        "RotNet and Exemplar tickets minus permuted masks, at 5 % and below (minus the corrected random masks beside).",
        more(5.0),
        lambda tables: contrasts.above_random(tables, LEARNED, "ticket"),
        _MASKS.format("RotNet or Exemplar tickets and permuted masks"),
    ),
    Claim(
        "3g",
        "",
        "The gap to random pruning grows with sparsity",
        "The gap of self-supervised tickets to random pruning grows with sparsity.",
        "fig3",
        "(Ticket minus permuted mask) at the lowest keep rate, minus the same at the highest.",
        more(1.0),
        lambda tables: contrasts.gap_to_random_grows(tables, LEARNED),
        "re-training rows of RotNet or Exemplar tickets and permuted masks at two keep rates",
    ),
    Claim(
        "3h",
        "",
        "At moderate rates random pruning is competitive",
        "At moderate rates random pruning is already competitive with supervised pruning.",
        "fig3",
        "Permuted minus label masks, both re-initialised, from 20 % up.",
        not_less(2.0),
        contrasts.random_against_labels,
        "re-training rows of re-initialised label and permuted masks at 20 % kept or more",
    ),
    Claim(
        "3i",
        "(f)",
        "The gap between labels and pretext grows with depth",
        "The supervised/self-supervised gap grows with the depth up to which one prunes.",
        "fig4",
        "(Label minus RotNet tickets) with most convolutions pruned, minus the same with fewest.",
        more(1.0),
        contrasts.gap_grows_with_depth,
        "re-training rows of label and RotNet tickets with only the first convolutions pruned",
    ),
    Claim(
        "4a",
        "(e)",
        "Most weights are zero before any pruning",
        "Big networks trained on CIFAR-10 are already mostly exact zeros before any pruning (VGG-19 84.5 %, ResNet-18 "
        "80.3 %).",
        "fig6",
        f"The share of weights of size up to {contrasts.COUNTS_AS_ZERO:g} in networks trained on labels with Adam, "
        "minus 50; the longest training decides (others beside). The paper takes a threshold of machine precision "
        "without its number; this one is ours.",
        more(0.0),
        contrasts.mostly_zeros,
        "rows of zeros of a network trained on labels with Adam",
    ),
    Claim(
        "4b",
        "(e)",
        "The zeros come from Adam with coupled weight decay",
        "Not stated by the paper, which trains with Adam on CIFAR-10 and names no cause: our conjecture.",
        "fig6",
        "Share of exact zeros with Adam minus that with SGD, equally many updates.",
        more(10.0),
        contrasts.adam_minus_sgd,
        "rows of zeros of the same training with Adam and with SGD",
        by="ours",
    ),
    Claim(
        "4c",
        "(e)",
        "The corrected random baseline is better",
        "The paper states that the random baseline must be corrected on CIFAR-10: first mask what converges to zero by "
        "itself, then at random among the rest. That this makes it better is our reading.",
        "fig3",
        "Random among what did not converge to zero minus random among all, at every keep rate.",
        more(1.0),
        contrasts.corrected_minus_random,
        're-training rows of the controls "nonzero" and "permuted"',
        by="ours",
    ),
    Claim(
        "5a",
        "(g)",
        "A pretext on all images beside few labels is no worse than few labels alone",
        "Winning tickets of S4L (10 % of the labels, rotations on all images) are at least as good as those of 10 % of "
        "the labels alone.",
        "fig5",
        "S4L tickets minus tickets of 10 % of the images with labels, at every keep rate.",
        not_less(2.0),
        lambda tables: contrasts.subset_tickets(tables, ("s4l", "images:0.1"), ("labels", "images:0.1")),
        "re-training rows of S4L tickets and of tickets from 10 % of the labels",
    ),
    Claim(
        "5b",
        "(g)",
        "A tenth of the labels beats none",
        "Even 10 % labels alone beat full unlabeled RotNet.",
        "fig5",
        "Tickets of 10 % of the images with labels minus RotNet tickets, at every keep rate.",
        more(1.0),
        lambda tables: contrasts.subset_tickets(tables, ("labels", "images:0.1"), ("rotnet", "")),
        "re-training rows of tickets from 10 % of the labels and from RotNet",
    ),
    Claim(
        "5c",
        "(g)",
        "A tenth of every class helps more than a tenth of the classes",
        "The advantage is much larger for 10 % of the images of every class than for 10 % of the classes.",
        "fig5",
        "Tickets of 10 % of the images minus tickets of 10 % of the classes, at every keep rate.",
        more(1.0),
        lambda tables: contrasts.subset_tickets(tables, ("labels", "images:0.1"), ("labels", "classes:0.1")),
        "re-training rows of tickets from both subsets of the labels",
    ),
    Claim(
        "6",
        "",
        "Tickets are sensitive to the rewind point",
        "Tickets are very sensitive to the rewind point (a limitation that the authors name).",
        "fig3",
        "Label tickets: the best rewind point minus the worst, at the same keep rate.",
        more(2.0),
        contrasts.rewind_points,
        "re-training rows of label tickets with two rewind points",
    ),
)
"""In the order of the paper's findings: features, transfer, masks, zeros, few labels, limits."""
